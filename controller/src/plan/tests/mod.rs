//! Stories: steps in which people and stores do something, and what must be so afterwards.

mod adoption;
mod assignment;
mod edge_hosts;
mod journal;
mod lost_nodes;
mod pods;
mod pools;
mod sharing;
mod simulation;
mod story;
mod trouble;
mod world;
