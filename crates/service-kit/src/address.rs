//! Whose an IP address is. In: an address. Out: whether it is one of the public internet, of somebody's own network, of
//! a cloud's service on the machine itself, or of no host at all. Pure: looks up no names and knows no configuration.
//!
//! Addresses of IPv6 that carry one of IPv4 (mapped, compatible, translated, NAT64, 6to4, Teredo) are judged by what
//! they carry: they are ways to the same host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is. The text completes “ADDRESS is …”.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Anybody's, on the internet.
    Public,
    /// Of this machine, of a network of one's own, or set aside: there may be a host that outsiders are not meant to reach.
    Private(&'static str),
    /// Where clouds give credentials to whoever asks from the machine, and the link that such services are on.
    Metadata(&'static str),
    /// No host can have it.
    Never(&'static str),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Private(what) | Self::Metadata(what) | Self::Never(what) => what,
        })
    }
}

/// How far a client reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// To public addresses alone: for what others may have a say in.
    Public,
    /// To private networks and this machine as well: for what the operator alone has named.
    Private,
    /// To the metadata services of clouds as well: for asking them, and for nothing else.
    Metadata,
}

impl Reach {
    /// May an address of this kind be dialled?
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Public => true,
            Kind::Private(_) => self >= Self::Private,
            Kind::Metadata(_) => self >= Self::Metadata,
            Kind::Never(_) => false,
        }
    }
}

const LOOPBACK: Kind = Kind::Private("an address of this machine itself");
const NETWORK: Kind = Kind::Private("an address of a private network");
const CARRIER: Kind = Kind::Private("an address of a provider's inner network");
const BENCHMARK: Kind = Kind::Private("an address set aside for measurements");
const EXAMPLE: Kind = Kind::Private("an address set aside for examples");
const PROTOCOL: Kind = Kind::Private("an address set aside for protocols");
const RESERVED: Kind = Kind::Private("an address that is not in use on the internet");
const LINK: Kind = Kind::Metadata("a link-local address, as cloud metadata services have");
const CLOUD: Kind = Kind::Metadata("the address of a cloud's metadata service");
const NOBODY: Kind = Kind::Never("the address of no host");
const GROUP: Kind = Kind::Never("an address of many hosts (multicast or broadcast)");

/// Metadata services outside the link-local networks: Alibaba, Azure's wire server, Oracle.
const CLOUDS_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same of IPv6: AWS' instances and containers, Google, Oracle, Scaleway.
const CLOUDS_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];
/// Where clouds give credentials, among the link-local ones: AWS, Google, Azure and others; AWS' containers.
const LINK_CLOUDS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 170, 2), Ipv4Addr::new(169, 254, 170, 23)];

/// What an address is.
#[must_use]
pub fn classify(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => of_v6(v6),
    }
}

fn of_v4(v4: Ipv4Addr) -> Kind {
    if CLOUDS_V4.contains(&v4) || LINK_CLOUDS.contains(&v4) {
        return CLOUD;
    }
    match v4.octets() {
        [0, ..] => NOBODY,
        [127, ..] => LOOPBACK,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => NETWORK,
        [100, 64..=127, ..] => CARRIER,
        [169, 254, ..] => LINK,
        [192, 0, 0, _] | [192, 88, 99, _] => PROTOCOL,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => EXAMPLE,
        [198, 18 | 19, ..] => BENCHMARK,
        [224..=239, ..] | [255, 255, 255, 255] => GROUP,
        [240..=255, ..] => RESERVED,
        _ => Kind::Public,
    }
}

fn of_v6(v6: Ipv6Addr) -> Kind {
    if CLOUDS_V6.contains(&v6) {
        return CLOUD;
    }
    let parts = v6.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = v4(parts[6], parts[7]);
    match parts {
        [0, 0, 0, 0, 0, 0, 0, 0] => NOBODY,
        [0, 0, 0, 0, 0, 0, 0, 1] => LOOPBACK,
        // Compatible, mapped, translated, NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            of_v4(last)
        }
        [0x64, 0xff9b, 1, ..] => of_local_nat64(parts),
        // Teredo: the server, and the host with its bits turned over.
        [0x2001, 0, ..] => worse(of_v4(v4(parts[2], parts[3])), of_v4(Ipv4Addr::from_bits(!last.to_bits()))),
        [0x2001, 2, 0, ..] => BENCHMARK,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => EXAMPLE,
        [0x2001, ..=0x1ff, ..] => PROTOCOL,
        [0x2002, high, low, ..] => of_v4(v4(high, low)),
        [0x2000..=0x3fff, ..] => Kind::Public,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => NETWORK,
        [0xfe80..=0xfebf, ..] => LINK,
        [0xff00..=0xffff, ..] => GROUP,
        // The internet has 2000::/3 alone.
        _ => RESERVED,
    }
}

/// NAT64 of a network's own. How long its prefix is cannot be told from the address: it is never more than private, and
/// a metadata address in any of the places where it may stand counts.
fn of_local_nat64(parts: [u16; 8]) -> Kind {
    let octets = Ipv6Addr::from(parts).octets();
    // Octet 8 is always left out.
    let at = |places: [usize; 4]| of_v4(Ipv4Addr::from(places.map(|place| octets[place])));
    [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12]), at([12, 13, 14, 15])]
        .into_iter()
        .find(|kind| matches!(kind, Kind::Metadata(_)))
        .unwrap_or(NETWORK)
}

fn worse(one: Kind, other: Kind) -> Kind {
    let rank = |kind| match kind {
        Kind::Public => 0,
        Kind::Private(_) => 1,
        Kind::Metadata(_) => 2,
        Kind::Never(_) => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_network_is_known() {
        let table: &[(Kind, &[&str])] = &[
            (
                Kind::Public,
                &[
                    "1.1.1.1",
                    "9.255.255.255",
                    "11.0.0.0",
                    "100.63.255.255",
                    "100.128.0.0",
                    "126.255.255.255",
                    "128.0.0.1",
                    "169.253.255.255",
                    "169.255.0.0",
                    "172.15.255.255",
                    "172.32.0.0",
                    "192.0.1.1",
                    "192.167.255.255",
                    "192.169.0.0",
                    "198.17.255.255",
                    "198.20.0.0",
                    "223.255.255.255",
                    "168.63.129.15",
                    "2606:4700::1111",
                    "2a00:1450::1",
                    "2001:4860::8888",
                    "::ffff:8.8.8.8",
                    "::8.8.8.8",
                    "64:ff9b::8.8.8.8",
                    "2002:808:808::1",
                    "2001:200::1",
                    "3ffe::1",
                    "2001:0:808:808:0:0:f7f7:f7f7",
                ],
            ),
            (
                LOOPBACK,
                &[
                    "127.0.0.1",
                    "127.255.255.255",
                    "::1",
                    "::ffff:127.0.0.1",
                    "::127.0.0.1",
                    "64:ff9b::7f00:1",
                    "2002:7f00:1::",
                    "::ffff:0:127.0.0.1",
                ],
            ),
            (
                NETWORK,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.1",
                    "172.31.255.255",
                    "192.168.0.1",
                    "fc00::1",
                    "fdff:ffff::1",
                    "fd00:ec2::253",
                    "fec0::1",
                    "feff::1",
                    "::ffff:10.1.2.3",
                    "::10.1.2.3",
                    "64:ff9b::10.0.0.1",
                    "64:ff9b:1::1.1.1.1",
                    "64:ff9b:1::a00:1",
                    "2002:c0a8:1::1",
                    // Teredo: its server, its host.
                    "2001:0:a00:1:0:0:f7f7:f7f7",
                    "2001:0:808:808:0:0:f5ff:fffe",
                ],
            ),
            (CARRIER, &["100.64.0.0", "100.127.255.255", "100.100.100.201"]),
            (
                LINK,
                &[
                    "169.254.0.1",
                    "169.254.255.255",
                    "fe80::1",
                    "febf::1",
                    "::ffff:169.254.1.1",
                    "64:ff9b::a9fe:1",
                ],
            ),
            (
                CLOUD,
                &[
                    "169.254.169.254",
                    "169.254.170.2",
                    "169.254.170.23",
                    "100.100.100.200",
                    "168.63.129.16",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "fd00:ec2::23",
                    "fd20:ce::254",
                    "fd00:c1::a9fe:a9fe",
                    "fd00:42::42",
                    "::ffff:169.254.169.254",
                    "::169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "64:ff9b:1::a9fe:a9fe",
                    "64:ff9b:1:a9fe:a9:fe00::",
                    "64:ff9b:1:a9:fe:a9fe::",
                    "64:ff9b:1:0:a9:fea9:fe00:0",
                    "2002:a9fe:a9fe::1",
                    "2001:0:808:808:0:0:5601:5601",
                    "::ffff:168.63.129.16",
                ],
            ),
            (BENCHMARK, &["198.18.0.0", "198.19.255.255", "2001:2::1"]),
            (EXAMPLE, &["192.0.2.1", "198.51.100.1", "203.0.113.255", "2001:db8::1", "3fff:fff::1"]),
            (PROTOCOL, &["192.0.0.1", "192.88.99.1", "2001:20::1", "2001:1ff::1"]),
            (
                RESERVED,
                &["240.0.0.1", "255.255.255.254", "100::1", "4000::1", "5f00::1", "64:ff9c::1", "1::"],
            ),
            (NOBODY, &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "::2"]),
            (GROUP, &["224.0.0.1", "239.255.255.255", "255.255.255.255", "ff02::1", "::ffff:224.0.0.1"]),
        ];
        let mut looked_at = 0;
        for (kind, addresses) in table {
            for address in *addresses {
                assert_eq!(classify(address.parse().unwrap()), *kind, "{address}");
                looked_at += 1;
            }
        }
        assert!(looked_at >= 40, "{looked_at}");
    }

    proptest! {
        /// Whatever carries an address of IPv4 is what it carries.
        #[test]
        fn an_address_in_another_is_judged_as_itself(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let kind = classify(v4.into());
            let low = u128::from(bits);
            let mapped = Ipv6Addr::from_bits(0xffff << 32 | low);
            let translated = Ipv6Addr::from_bits(0xffff << 48 | low);
            let nat64 = Ipv6Addr::from_bits(0x64_ff9b << 96 | low);
            let six_to_four = Ipv6Addr::from_bits(0x2002 << 112 | low << 80 | 7);
            for v6 in [mapped, translated, nat64, six_to_four] {
                prop_assert_eq!(classify(v6.into()), kind, "{} in {}", v4, v6);
            }
            let compatible = Ipv6Addr::from_bits(low);
            prop_assert!(bits <= 1 || classify(compatible.into()) == kind, "{}", compatible);
        }

        /// Outside of what is given out and of ways to IPv4 nothing is public.
        #[test]
        fn every_address_has_a_kind(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            let kind = classify(v6.into());
            let given_out = bits >> 125 == 1;
            let way = bits >> 48 == 0 || bits >> 64 == 0 || bits >> 32 == 0x64_ff9b_u128 << 64;
            prop_assert!(kind != Kind::Public || given_out || way, "{} {:?}", v6, kind);
        }
    }
}
