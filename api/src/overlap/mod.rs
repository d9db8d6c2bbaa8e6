//! Who holds which addresses, and what of it is held twice.
//!
//! Clusters that are joined must not use one address for two things. What each of them uses is a [`Territory`]: prefixes with their
//! holders, which are real things with names ([`Holding`]), so that whatever is said about an overlap says whose both sides are.
//! [`used_by`] says what one object puts into it.
//! Overlap is looked for at three times:
//!
//! - before anybody peers: [`collisions`] of two territories, and [`Vacancies`] to move to;
//! - when a link or an edge host is declared: what it accepts against the same territory ([`Territory::overlaps`]);
//! - for every route that arrives: [`Border::judge`], which refuses one prefix at a time with a typed reason ([`Refusal`]).
//!
//! A prefix overlaps another when one lies in the other, whichever it is, or both are the same; families never meet. A lookup walks
//! down one trie, so it takes as long in a hundred thousand prefixes as in few, and a full check of two territories takes a lookup
//! for each prefix. Nothing in here reads a store or a clock.

mod border;
mod collision;
mod holder;
mod links;
mod territory;
#[cfg(test)]
mod tests;
mod usage;
mod vacancies;

pub use border::{Acceptance, Accepted, Border, Neighbour, Refusal, martian};
pub use collision::{Collision, Side, collisions};
pub use holder::{Holder, Holding};
pub use links::{Identity, LinkRefusal, derived_asn, links_in_force};
pub use territory::{Held, Territory, prefixes};
pub use usage::{declared, used_by};
pub use vacancies::Vacancies;
