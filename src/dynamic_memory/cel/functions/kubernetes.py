# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' libraries of values: quantity, semver, url, ip and cidr, named formats, jsonpatch.

Source: k8s.io/apiserver/pkg/cel/library.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from dynamic_memory.cel.errors import Fault
from dynamic_memory.cel.functions.signature import declare
from dynamic_memory.cel.values import NONE, Optional, Semver
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["FORMATS", "JSON_PATCH", "OVERLOADS", "Cidr", "Format", "Ip", "Url", "parse_quantity"]


def parse_quantity(text: str) -> Quantity:
    """Read a quantity.

    Raises:
        Fault: it is none.

    """
    try:
        return Quantity.parse(text)
    except InvalidInput:
        raise Fault(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            if text
            else "empty quantity"
        ) from None


def _succeeds(call: Callable[..., Any]) -> Callable[..., bool]:
    def check(*args: Any) -> bool:
        try:
            call(*args)
        except Fault:
            return False
        return True

    return check


def _semver(text: str, normalize: bool = False) -> Semver:
    return Semver.normalized(text) if normalize else Semver(text)


def _as_integer(quantity: Quantity) -> int:
    if not quantity.is_int64:
        raise Fault("cannot convert value to integer")
    return quantity.value()


def _compare(a: Any, b: Any) -> int:
    return int(b < a) - int(a < b)


class Url:
    """An absolute URL or an absolute path."""

    cel_kind = "url"
    __slots__ = ("parts", "text")

    def __init__(self, text: str) -> None:
        problem = None
        try:
            self.parts = urllib.parse.urlsplit(text)
            _ = self.parts.port
        except ValueError as error:
            problem = str(error)
        if problem is None and (not text or any(c < " " or c == "\x7f" for c in text)):
            problem = "empty url" if not text else "invalid control character in URL"
        if problem is None and not self.parts.scheme and not text.startswith("/"):
            problem = "invalid URI for request"
        if problem is None and re.search(r"%(?![0-9a-fA-F]{2})", self.parts.path):
            problem = "invalid URL escape"
        if problem is None and ("\\" in self.parts.netloc or " " in self.parts.netloc):
            problem = "invalid character in host name"
        if problem is not None:
            raise Fault(f'URL parse error during conversion from string: parse "{text}": {problem}')
        self.text = text

    @property
    def host(self) -> str:
        """Host with its port, brackets kept."""
        return self.parts.netloc.rpartition("@")[2]

    @property
    def hostname(self) -> str:
        """Host without port and brackets."""
        host = self.host
        if host.startswith("["):
            return host[1 : host.find("]")]
        return host.partition(":")[0]

    @property
    def port(self) -> str:
        """Port as it stands, or nothing."""
        return self.host.rpartition("]")[2].rpartition(":")[2] if ":" in self.host.rpartition("]")[2] else ""

    def query(self) -> dict[str, list[str]]:
        """Each key with its values."""
        return urllib.parse.parse_qs(self.parts.query, keep_blank_values=True)

    def __eq__(self, other: object) -> bool:
        return type(other) is Url and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class Ip:
    """An IP address without zone."""

    cel_kind = "ip"
    __slots__ = ("address",)

    def __init__(self, text: str) -> None:
        try:
            self.address = ipaddress.ip_address(text)
        except ValueError as error:
            raise Fault(f'IP Address "{text}" parse error during conversion from string: {error}') from None
        if "%" in text:
            raise Fault(f'IP address "{text}" with zone value is not allowed')
        if isinstance(self.address, ipaddress.IPv6Address) and self.address.ipv4_mapped:
            raise Fault(f'IPv4-mapped IPv6 address "{text}" is not allowed')

    def __str__(self) -> str:
        return str(self.address)

    def __eq__(self, other: object) -> bool:
        return type(other) is Ip and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class Cidr:
    """An address with the length of its network's prefix."""

    cel_kind = "cidr"
    __slots__ = ("interface",)

    def __init__(self, text: str) -> None:
        address, slash, bits = text.partition("/")
        try:
            if not slash or not re.fullmatch(r"0|[1-9][0-9]{0,2}", bits, re.ASCII) or "%" in address:
                raise ValueError(text)  # noqa: TRY301 - joins the failures of the parser beneath
            self.interface = ipaddress.ip_interface(text)
        except ValueError:
            raise Fault(
                f'network address parse error during conversion from string: netip.ParsePrefix("{text}")'
            ) from None
        if isinstance(self.interface, ipaddress.IPv6Interface) and self.interface.ip.ipv4_mapped:
            raise Fault(f'IPv4-mapped IPv6 address "{address}" is not allowed')

    @property
    def bits(self) -> int:
        """Length of the prefix."""
        return self.interface.network.prefixlen

    def masked(self) -> Cidr:
        """Return the network."""
        return Cidr(str(self.interface.network))

    def contains_ip(self, ip: Ip | str) -> bool:
        """Tell whether an address is in the network."""
        address = (Ip(ip) if isinstance(ip, str) else ip).address
        return address.version == self.interface.version and address in self.interface.network

    def contains_cidr(self, other: Cidr | str) -> bool:
        """Tell whether another network is a part of this one."""
        cidr = Cidr(other) if isinstance(other, str) else other
        return (
            cidr.interface.version == self.interface.version
            and cidr.interface.network.network_address in self.interface.network
            and self.bits <= cidr.bits
        )

    def __str__(self) -> str:
        return str(self.interface.with_prefixlen)

    def __eq__(self, other: object) -> bool:
        return type(other) is Cidr and self.interface == other.interface

    def __hash__(self) -> int:
        return hash(self.interface)


class Format:
    """A named format; `validate` returns what is wrong with a text."""

    cel_kind = "format"
    __slots__ = ("name", "regex_size", "validate")

    def __init__(self, name: str, regex_size: int, validate: Callable[[str], list[str]]) -> None:
        self.name = name
        self.regex_size = regex_size
        self.validate = validate

    def __eq__(self, other: object) -> bool:
        return type(other) is Format and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


_LABEL = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_1035 = r"[a-z](?:[-a-z0-9]*[a-z0-9])?"
_QUALIFIED = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_MESSAGES = {
    _LABEL: "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start "
    "and end with an alphanumeric character",
    _LABEL_1035: "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character",
}
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character"
)


def _length(text: str, limit: int) -> list[str]:
    return [f"must be no more than {limit} characters"] if len(text) > limit else []


def _masked(text: str, *, prefix: bool) -> str:
    return text[:-1] + "a" if prefix and len(text) > 1 and text.endswith("-") else text


def _label(pattern: str, *, prefix: bool) -> Callable[[str], list[str]]:
    regex = re.compile(pattern, re.ASCII)

    def validate(text: str) -> list[str]:
        text = _masked(text, prefix=prefix)
        return _length(text, 63) + ([] if regex.fullmatch(text) else [_MESSAGES[pattern]])

    return validate


def _subdomain(text: str, *, prefix: bool = False) -> list[str]:
    text = _masked(text, prefix=prefix)
    valid = all(re.fullmatch(_LABEL, part, re.ASCII) for part in text.split("."))
    return _length(text, 253) + ([] if valid else [_SUBDOMAIN_MESSAGE])


def _qualified_name(text: str) -> list[str]:
    prefix, slash, name = text.rpartition("/")
    problems: list[str] = []
    if text.count("/") > 1:
        return [
            (
                "a qualified name must consist of alphanumeric characters, '-', '_' or '.', with an optional DNS "
                "subdomain prefix and '/'"
            )
        ]
    if slash:
        problems += (
            ["prefix part must be non-empty"] if not prefix else [f"prefix part {p}" for p in _subdomain(prefix)]
        )
    if not name:
        problems.append("name part must be non-empty")
    problems += [f"name part {p}" for p in _length(name, 63)]
    if not _QUALIFIED.fullmatch(name):
        problems.append(
            "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character"
        )
    return problems


def _label_value(text: str) -> list[str]:
    valid = not text or _QUALIFIED.fullmatch(text)
    return _length(text, 63) + (
        []
        if valid
        else [
            (
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and "
                "must start and end with an alphanumeric character"
            )
        ]
    )


def _uri(text: str) -> list[str]:
    try:
        Url(text)
    except Fault as fault:
        return [str(fault).removeprefix("URL parse error during conversion from string: ")]
    return []


def _uuid(text: str) -> list[str]:
    valid = re.fullmatch(
        r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", text, re.ASCII | re.IGNORECASE
    )
    return [] if valid else ["does not match the UUID format"]


def _base64(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return [] if text else ["invalid base64"]


def _date(text: str) -> list[str]:
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            raise ValueError(text)  # noqa: TRY301 - joins the failures of the parser beneath
        dt.date.fromisoformat(text)
    except ValueError:
        return ["invalid date"]
    return []


_CLOCK = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
)


def _datetime(text: str) -> list[str]:
    match = _CLOCK.fullmatch(text)
    return ["invalid datetime"] if match is None or _date(match[1]) else []


FORMATS = {
    "dns1123Label": Format("DNS1123Label", 30, _label(_LABEL, prefix=False)),
    "dns1123Subdomain": Format("DNS1123Subdomain", 60, _subdomain),
    "dns1035Label": Format("DNS1035Label", 30, _label(_LABEL_1035, prefix=False)),
    "qualifiedName": Format("QualifiedName", 60, _qualified_name),
    "dns1123LabelPrefix": Format("DNS1123LabelPrefix", 30, _label(_LABEL, prefix=True)),
    "dns1123SubdomainPrefix": Format("DNS1123SubdomainPrefix", 60, lambda text: _subdomain(text, prefix=True)),
    "dns1035LabelPrefix": Format("DNS1035LabelPrefix", 30, _label(_LABEL_1035, prefix=True)),
    "labelValue": Format("LabelValue", 40, _label_value),
    "uri": Format("URI", 1103, _uri),
    "uuid": Format("uuid", 108, _uuid),
    "byte": Format("byte", 84, _base64),
    "date": Format("date", 70, _date),
    "datetime": Format("datetime", 70, _datetime),
}


def _validate(form: Format, text: str) -> Optional:
    problems = form.validate(text)
    return Optional(problems) if problems else NONE


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _global_unicast(ip: Ip) -> bool:
    a = ip.address
    broadcast = str(a) == "255.255.255.255"
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local or broadcast)


def _link_local_multicast(ip: Ip) -> bool:
    a = ip.address
    network = ipaddress.ip_network("224.0.0.0/24") if a.version == 4 else None  # noqa: PLR2004 - IPv4
    return a in network if network else (a.is_multicast and a.packed[1] & 0x0F == 2)  # noqa: PLR2004 - scope link-local


OVERLOADS = declare(
    [
        ("string_to_quantity", "quantity(string) -> Quantity", parse_quantity),
        ("is_quantity_string", "isQuantity(string) -> bool", _succeeds(parse_quantity)),
        ("quantity_sign", "sign(Quantity) -> int", lambda q: q.sign),
        ("quantity_is_greater_than", "Quantity.isGreaterThan(Quantity) -> bool", lambda a, b: b < a),
        ("quantity_is_less_than", "Quantity.isLessThan(Quantity) -> bool", lambda a, b: a < b),
        ("quantity_compare_to", "Quantity.compareTo(Quantity) -> int", _compare),
        ("quantity_get_float", "Quantity.asApproximateFloat() -> double", lambda q: float(q.as_fraction())),
        ("quantity_get_int", "Quantity.asInteger() -> int", _as_integer),
        ("quantity_is_integer", "Quantity.isInteger() -> bool", lambda q: q.is_int64),
        ("quantity_add", "Quantity.add(Quantity) -> Quantity", lambda a, b: a + b),
        ("quantity_add_int", "Quantity.add(int) -> Quantity", lambda a, b: a + b),
        ("quantity_sub", "Quantity.sub(Quantity) -> Quantity", lambda a, b: a - b),
        ("quantity_sub_int", "Quantity.sub(int) -> Quantity", lambda a, b: a - b),
        ("string_to_semver", "semver(string) -> Semver", _semver),
        ("string_bool_to_semver", "semver(string, bool) -> Semver", _semver),
        ("is_semver_string", "isSemver(string) -> bool", _succeeds(_semver)),
        ("is_semver_string_bool", "isSemver(string, bool) -> bool", _succeeds(_semver)),
        ("semver_is_greater_than", "Semver.isGreaterThan(Semver) -> bool", lambda a, b: b < a),
        ("semver_is_less_than", "Semver.isLessThan(Semver) -> bool", lambda a, b: a < b),
        ("semver_compare_to", "Semver.compareTo(Semver) -> int", _compare),
        ("semver_major", "Semver.major() -> int", lambda v: v.major),
        ("semver_minor", "Semver.minor() -> int", lambda v: v.minor),
        ("semver_patch", "Semver.patch() -> int", lambda v: v.patch),
        ("string_to_url", "url(string) -> URL", Url),
        ("is_url_string", "isURL(string) -> bool", _succeeds(Url)),
        ("url_get_scheme", "URL.getScheme() -> string", lambda u: u.parts.scheme),
        ("url_get_host", "URL.getHost() -> string", lambda u: u.host),
        ("url_get_hostname", "URL.getHostname() -> string", lambda u: u.hostname),
        ("url_get_port", "URL.getPort() -> string", lambda u: u.port),
        (
            "url_get_escaped_path",
            "URL.getEscapedPath() -> string",
            lambda u: urllib.parse.quote(u.parts.path, safe="/%:@!$&'()*+,;=~-._"),
        ),
        ("url_get_query", "URL.getQuery() -> map(string, list(string))", lambda u: u.query()),
        ("string_to_ip", "ip(string) -> IP", Ip),
        ("is_ip", "isIP(string) -> bool", _succeeds(Ip)),
        ("ip_is_canonical", "ip.isCanonical(string) -> bool", lambda s: str(Ip(s)) == s),
        ("ip_family", "IP.family() -> int", lambda i: i.address.version),
        ("ip_is_unspecified", "IP.isUnspecified() -> bool", lambda i: i.address.is_unspecified),
        ("ip_is_loopback", "IP.isLoopback() -> bool", lambda i: i.address.is_loopback),
        ("ip_is_link_local_multicast", "IP.isLinkLocalMulticast() -> bool", _link_local_multicast),
        ("ip_is_link_local_unicast", "IP.isLinkLocalUnicast() -> bool", lambda i: i.address.is_link_local),
        ("ip_is_global_unicast", "IP.isGlobalUnicast() -> bool", _global_unicast),
        ("ip_to_string", "string(IP) -> string", str),
        ("string_to_cidr", "cidr(string) -> CIDR", Cidr),
        ("is_cidr", "isCIDR(string) -> bool", _succeeds(Cidr)),
        ("cidr_contains_ip_string", "CIDR.containsIP(string) -> bool", lambda c, ip: c.contains_ip(ip)),
        ("cidr_contains_ip_ip", "CIDR.containsIP(IP) -> bool", lambda c, ip: c.contains_ip(ip)),
        ("cidr_contains_cidr_string", "CIDR.containsCIDR(string) -> bool", lambda c, other: c.contains_cidr(other)),
        ("cidr_contains_cidr", "CIDR.containsCIDR(CIDR) -> bool", lambda c, other: c.contains_cidr(other)),
        ("cidr_ip", "CIDR.ip() -> IP", lambda c: Ip(str(c.interface.ip))),
        ("cidr_prefix_length", "CIDR.prefixLength() -> int", lambda c: c.bits),
        ("cidr_masked", "CIDR.masked() -> CIDR", lambda c: c.masked()),
        ("cidr_to_string", "string(CIDR) -> string", str),
        (
            "format-named",
            "format.named(string) -> optional(Format)",
            lambda n: Optional(FORMATS[n]) if n in FORMATS else NONE,
        ),
        ("format-validate", "Format.validate(string) -> optional(list(string))", _validate),
        *((f"format.{name}", f"format.{name}() -> Format", _constant(form)) for name, form in FORMATS.items()),
    ],
    static=["ip", "format"],
)
JSON_PATCH = declare(
    [
        (
            "string_jsonpatch_escapeKey_string",
            "jsonpatch.escapeKey(string) -> string",
            lambda s: s.replace("~", "~0").replace("/", "~1"),
        )
    ],
    static=["jsonpatch"],
)
