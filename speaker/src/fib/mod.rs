//! Learned routes in the kernel: a table of our own, the rules that lead there, and the packets that keep their source address.
//!
//! ```text
//!  [Fib] --notes by prefix--> [worker] --> [Plan: pure] --changes--> [writer: one send for many] --> table 179
//!                                |            ^    ^
//!                                |  next hops-'    '-- routes of others <--[events]-- everybody's links, addresses, routes, rules
//!                                '--> [nftables] --> table inet roadstead
//! ```
//!
//! One thread owns all of it and the handle only leaves notes, collected by prefix, so nobody ever waits for the kernel.
//!
//! **Whose routes.** Ours are those of protocol 179 in table 179, and nothing else is ever written. The rule that leads there stands right
//! before the one of the main table: in the main table itself our routes would stand among those of others, and behind it a route to
//! 10.0.0.0/8, as many a node has one, would hide every prefix that is learned. The local table is asked before.
//!
//! **Others win.** Before the main table means before its more specific routes as well, connected networks and pods of this node among them.
//! So for each of them that lies within a prefix of ours our table has a *throw* route, which sends the question on to the next rule: the
//! longest match counts over both tables. For a prefix that the main table has itself, ours is not put in, and the status says why.
//! A throw is there before the prefix that it cuts, and after.
//!
//! **Next hops.** The kernel is asked how each is reached, with a mark that our rule leaves out: by everything that this machine has but our
//! own table, so a route never leads to itself. The answer's gateways go into the route; one by way of the default route counts only where
//! a prefix has no other next hop, because such a packet goes where it would have gone anyway, and taking a share of the traffic from
//! next hops that work would lose it. A next hop that is not reached, or only over an interface without a carrier, is left out
//! until something changes. All this is asked again after every change of links, addresses, rules, nexthop objects and routes that concern it.
//!
//! **Mending.** What others change in our table is read and put right at once; what they change again and again costs a tenth of the
//! thread's time at most. When the kernel has dropped notifications, everything is read.
//!
//! **Restart.** Routes of an earlier run are adopted. One that is wanted again is compared and not written, so not a packet is lost; the
//! rest goes with [`Fib::settle`], or after [`FibOptions::keep`].
//!
//! What the kernel does and nobody expects:
//! - Routes of IPv4 that go with an interface or its carrier go without a notification. So a change of a link that is used has our table read.
//! - Whether a gateway is on the link is asked of the route's own table first, ours, where a wider prefix would answer. Hence `onlink` in
//!   every route; we have asked already.
//! - A table above 255 stands in an attribute alone, and a table that nobody has used is an error and not empty.
//! - Asked strictly, IPv6 refuses the flag for the table with EINVAL; it says the table always.
//! - A route by a nexthop object changes with the object, and about the route not a word is said where `nexthop_compat_mode` is off.
//! - In a chain of its own, to *accept* a packet does not keep it from a later chain's masquerading; to translate its source into
//!   itself does (`nftables/mod.rs`).
//! - `SO_RCVBUFFORCE` takes CAP_NET_ADMIN of the whole machine: in a container with user namespaces buffers stay small.

mod events;
mod handle;
mod kernel;
mod nftables;
mod plan;
mod settings;
mod status;
mod view;
mod worker;
mod writer;

pub use handle::{Ending, Fib, FibError, FibOptions, start};
pub use status::{Connected, FibStatus, Missing};
