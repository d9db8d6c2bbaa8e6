//! Hashes from a seed: the same seed gives the same table, and a peer cannot choose prefixes that collide without it.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;

#[derive(Debug, Clone, Copy)]
pub(super) struct SeededHash(u64);

impl SeededHash {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn prefix(self, prefix: &IpNet) -> u32 {
        let state = FixedState::with_seed(self.0);
        let hash = match prefix {
            IpNet::V4(net) => state.hash_one(u64::from(u32::from(net.network())) << 8 | u64::from(net.prefix_len())),
            IpNet::V6(net) => state.hash_one((u128::from(net.network()), net.prefix_len())),
        };
        (hash >> 32) as u32 ^ hash as u32
    }

    pub(super) fn route(self, octets: &[u8], next_hop: IpAddr) -> u64 {
        let state = FixedState::with_seed(self.0);
        state.hash_one((octets, next_hop))
    }
}
