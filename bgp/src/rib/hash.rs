//! Hashes from a seed: the same seed gives the same table, and a peer cannot choose prefixes that collide without it.
//!
//! Prefixes that follow one another stand side by side in the table, eight at a time. They mostly come and go together, and eight
//! places are what the processor fetches from memory at once: looking for each of them elsewhere is half the cost of a withdrawal.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::fast::FixedState;
use ipnet::IpNet;

#[derive(Debug, Clone, Copy)]
pub(super) struct SeededHash(u64);

/// A line of the cache has 64 octets, and a place in the table's index 8.
const NEIGHBOURS: u32 = 8;

impl SeededHash {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// What neighbours differ in stands in the lowest bits, which choose the place, and in the highest, by which an index tells
    /// entries in one place apart.
    pub(super) fn prefix(self, prefix: &IpNet) -> u32 {
        let state = FixedState::with_seed(self.0);
        let (hash, neighbour) = match prefix {
            IpNet::V4(net) => {
                let number = u64::from(u32::from(net.network())) >> (32 - net.prefix_len());
                (state.hash_one((number / NEIGHBOURS as u64) << 8 | u64::from(net.prefix_len())), number as u32)
            }
            IpNet::V6(net) => {
                // Of the whole address space there is one.
                let number = u128::from(net.network()).checked_shr(u32::from(128 - net.prefix_len())).unwrap_or(0);
                (state.hash_one((number / u128::from(NEIGHBOURS), net.prefix_len())), number as u32)
            }
        };
        let (place, neighbour) = ((hash >> 32) as u32 ^ hash as u32, neighbour % NEIGHBOURS);
        (place - place % NEIGHBOURS + neighbour) ^ neighbour << (u32::BITS - NEIGHBOURS.ilog2())
    }

    pub(super) fn route(self, octets: &[u8], next_hop: IpAddr) -> u64 {
        let state = FixedState::with_seed(self.0);
        state.hash_one((octets, next_hop))
    }
}
