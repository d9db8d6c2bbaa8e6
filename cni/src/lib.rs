//! `roadstead-cni`: the IPAM plugin that a container runtime, or a main plugin like ipvlan, runs for each interface of a pod.
//!
//! ```text
//!  runtime --> main plugin --stdin, CNI_*--> roadstead-cni --[socket messages]--> speaker of the node: pools, journal
//!                    ^------- stdout ------------'  ^---------- addresses, or why not --------'
//! ```
//!
//! It decides nothing: it checks what the runtime says ([`call`]), asks the speaker over its Unix socket ([`client`], [`socket`]),
//! and writes the answer in the form that the runtime's version of the specification wants ([`answer`]). One promise is its own:
//! a DEL succeeds, whoever is away. What the speaker could not be told is left in a file beside the socket ([`leftover`]), because
//! no runtime repeats a DEL that failed.
//!
//! In a list behind ipvlan or macvlan it is the runtime's second plugin, and makes the ways that such an interface lacks: to its own
//! node, to Services, and back by the interface that was asked ([`reach`]). There the speaker is asked which ranges lie behind the node.
//!
//! `roadstead-cni install` puts it on a node ([`install`]).
//!
//! It runs for every interface of every pod, so it starts in a few milliseconds: no async runtime, no Kubernetes client.

pub mod answer;
pub mod call;
pub mod client;
pub mod install;
pub mod leftover;
pub mod netlink;
pub mod reach;
pub mod socket;
pub mod version;
