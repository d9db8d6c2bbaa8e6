//! Learned routes in a real kernel: what it has of them, and what becomes of them when others change something.

mod masquerading;
mod next_hops;
mod routes;
mod world;
