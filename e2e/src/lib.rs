//! The harness of the end-to-end tests: real routers, a real API server, real nodes, and our binaries among them.
//!
//! A test is a [`scene()`]: it has a directory and a name prefix of its own, and everything that it starts is gone when it
//! ends, fails, or is killed:
//!
//! - [`Process`] ends its program on drop, and the kernel ends it when the test dies (`PR_SET_PDEATHSIG`);
//! - network namespaces, directories, mounts and cgroups carry the scene's name, by which the scene removes them on drop,
//!   or a small program of its own (`e2e-sweeper`) when the test is killed, or the next run when that is killed too.
//!
//! The harness knows our product as a user does: binaries, manifests, logs and the network. It does not link any of
//! our crates.
//!
//! | module | stands for |
//! |---|---|
//! | [`network`] | machines and cables: network namespaces, veth pairs, a bridge |
//! | [`routers`] | FRR, BIRD, GoBGP, OpenBGPD and ExaBGP behind one trait |
//! | [`interop`] | our speaker with all of them at once, and the table of what was seen |
//! | [`byte_peer`] | a router of a few lines that notes when each byte came |
//! | [`kubernetes`] | etcd, kube-apiserver, controllers, and nodes with a kubelet |
//! | [`product`] | our binaries and a directory of manifests |
//! | [`route_server`] | our route server on a machine |
//! | [`malformed`] | routers that are sent what nobody should send |
//! | [`traffic`] | packets there and back, and how many were lost |
//! | [`unnumbered`] | links without addresses |
//! | [`capture`] | every packet on a cable, judged by tshark |

pub mod byte_peer;
pub mod capture;
pub mod interop;
pub mod kubernetes;
pub mod malformed;
pub mod network;
pub mod process;
pub mod product;
pub mod route_server;
pub mod routers;
mod run;
mod scene;
mod sweep;
pub mod traffic;
pub mod unnumbered;
mod wait;

pub use process::Process;
pub use run::{output_of, run};
pub use scene::{Scene, scene};
pub use sweep::remove as remove_scene;
pub use wait::wait_until;
