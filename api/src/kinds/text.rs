//! Strings of one meaning: what the schema says of an address, a prefix or a community wherever one is written.
//!
//! Each carries its own length bound (without it the API server refuses the CEL rules as too costly) and its own CEL rule, so that
//! a refusal names the list element: `spec.addresses[1]: Invalid value: "10.0.0.1/24": …`. They hold text as the user gave it; the
//! checked types in [`crate::checked`] are made from it. (For numbers the message cannot name the value: the API server's cost estimate
//! takes `string(integer)` for unbounded and refuses the CRD.)

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, max $max:literal, $($rule:literal => $message:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(extend("maxLength" = $max, "x-kubernetes-validations" = [
            // The expression names the value, which the API server's own error for a string does not.
            $({"rule": $rule, "message": $message, "messageExpression": concat!("self + \": ", $message, "\"")}),+
        ]))]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text!(
    /// A CIDR, a single address, or an inclusive range `first-last`.
    RangeText, max 91,
    "self.contains('-') ? (self.split('-').size() == 2 && isIP(self.split('-')[0].trim()) && isIP(self.split('-')[1].trim())) : (isCIDR(self) || isIP(self))" =>
        "must be a CIDR like 192.0.2.0/24, an address, or a range first-last like 192.0.2.10-192.0.2.50",
    "!self.contains('-') || self.split('-').size() != 2 || !isIP(self.split('-')[0].trim()) || !isIP(self.split('-')[1].trim()) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()" =>
        "both ends of a range must be of one family",
    "!isCIDR(self) || cidr(self) == cidr(self).masked()" =>
        "host bits must be zero: write the network address, like 192.0.2.0/24",
);

text!(
    /// A prefix in CIDR notation, host bits zero.
    CidrText, max 43,
    "isCIDR(self)" => "must be a CIDR like 192.0.2.0/24 or 2001:db8::/32",
    "!isCIDR(self) || cidr(self) == cidr(self).masked()" => "host bits must be zero: write the network address, like 192.0.2.0/24",
);

text!(
    /// One address.
    AddressText, max 45,
    "isIP(self)" => "must be an IPv4 or IPv6 address",
);

text!(
    /// An address with a TCP port: `192.0.2.1:179` or `[2001:db8::1]:179`.
    SocketText, max 51,
    "self.matches('^([0-9.]{7,15}|\\\\[[0-9a-fA-F:.]{2,45}\\\\]):[0-9]{1,5}$')" => "must be an address with a port, like 192.0.2.1:179 or [2001:db8::1]:179",
);

text!(
    /// One IPv4 address.
    Ipv4Text, max 15,
    "isIP(self) && ip(self).family() == 4" => "must be an IPv4 address",
);

text!(
    /// One IPv6 address.
    Ipv6Text, max 45,
    "isIP(self) && ip(self).family() == 6" => "must be an IPv6 address",
);

text!(
    /// A community (RFC 1997): `ASN:value`, each 0 to 65535, or the name of a well-known one.
    CommunityText, max 32,
    "self in ['graceful-shutdown', 'blackhole', 'no-export', 'no-advertise', 'no-export-subconfed'] || (self.matches('^[0-9]{1,5}:[0-9]{1,5}$') && self.split(':').all(part, int(part) <= 65535))" =>
        "must be ASN:value with both from 0 to 65535, or one of graceful-shutdown, blackhole, no-export, no-advertise, no-export-subconfed",
);

text!(
    /// A large community (RFC 8092): three numbers from 0 to 4294967295 joined by colons.
    LargeCommunityText, max 32,
    "self.matches('^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') && self.split(':').all(part, int(part) <= 4294967295)" =>
        "must be three numbers from 0 to 4294967295 joined by colons, like 64500:1:7",
);

text!(
    /// An extended community (RFC 4360, RFC 5701): `rt:` or `soo:` with an ASN or an address and a number, or all octets in hexadecimal.
    ExtendedCommunityText, max 64,
    "self.matches('^0x([0-9a-f]{16}|[0-9a-f]{40})$') || (self.matches('^(rt|soo|ro):[0-9]{1,10}:[0-9]{1,10}$') && (int(self.split(':')[1]) <= 65535 ? int(self.split(':')[2]) <= 4294967295 : int(self.split(':')[1]) <= 4294967295 && int(self.split(':')[2]) <= 65535)) || (self.matches('^(rt|soo|ro):[0-9.]{7,15}:[0-9]{1,5}$') && isIP(self.split(':')[1]) && int(self.split(':')[2]) <= 65535) || (self.matches('^(rt|soo|ro):[[][0-9a-f:.]{2,45}[]]:[0-9]{1,5}$') && isIP(self.substring(self.indexOf('[') + 1, self.indexOf(']'))) && ip(self.substring(self.indexOf('[') + 1, self.indexOf(']'))).family() == 6 && int(self.substring(self.indexOf(']') + 2)) <= 65535)" =>
        "must be rt: or soo: with an ASN or an address and a number, like rt:65000:1, soo:192.0.2.1:1 or rt:[2001:db8::1]:1 (behind an ASN beyond 65535 or an address the number goes up to 65535), or 16 or 40 hexadecimal digits like 0x0002fde800000001",
);

text!(
    /// How much the links behind a route carry (RFC 10005): `PerEndpoint`, or a fixed number of `Mbps` or `Gbps`.
    LinkBandwidthText, max 16,
    "self == 'PerEndpoint' || self.matches('^[1-9][0-9]{0,5}[MG]bps$')" =>
        "must be PerEndpoint, or a number from 1 to 999999 with Mbps or Gbps, like 25Gbps",
);

text!(
    /// The name of a Kubernetes object (DNS-1123 subdomain).
    ObjectName, max 253,
    "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')" => "must be the name of an object: lower-case letters, digits, - and .",
);

text!(
    /// The namespace and name of a NetworkAttachmentDefinition.
    NetworkName, max 317,
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')" =>
        "must be the namespace and name of a NetworkAttachmentDefinition, like kube-system/macvlan-ens5",
);

/// An AS number as the user gave it (RFC 6793; RFC 7607 forbids 0, and 23456 is AS_TRANS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("minimum" = 1, "maximum" = 4294967295i64, "x-kubernetes-validations" = [
    {"rule": "self != 23456", "message": "23456 is AS_TRANS (RFC 6793) and nobody's own ASN; allowed: 1 to 4294967295 but 23456"}
]))]
pub struct AsnNumber(pub i64);

impl fmt::Display for AsnNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
