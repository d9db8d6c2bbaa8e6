//! The engine as a route server beside BIRD and FRR, under the same loads: how long from the first byte that feeders send
//! to the last prefix at the monitors, and how much memory.
//!
//! Feeders, device and monitors are machines of their own (network namespaces on one switch). The device is one process of:
//!
//! | device | is |
//! |---|---|
//! | floor | a program that copies UPDATEs from senders to receivers and looks at nothing |
//! | BIRD | with `rs client` for each session, no kernel, no filters, fast timers |
//! | FRR | bgpd alone with `route-server-client`, no advertisement interval, no coalescing |
//! | roadstead | `roadstead route-server`, one entry for all clients |
//!
//! Times of different machines compare to nothing, and those of one machine change with its other work: so all devices run
//! in turn within one run, each as often as the others, and what counts is the ratio of the medians after the floor was
//! taken off both. Each turn starts the device anew. The processor time beside it tells work from waiting: it is hardly
//! changed by what else the machine does, and larger than the time where a device uses both cores.
//!
//! - [`load`] makes the bytes, [`wire`] knows their form.
//! - [`tester`] is both ends, [`floor`] and [`device`] what lies between.
//! - [`budget`] says what we may take of that, [`table`] prints both.

mod budget;
mod device;
mod floor;
mod load;
mod table;
mod tester;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum as _};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::{Scene, scene};

use crate::device::Device;
use crate::load::{Afterwards, DEVICE, Load, Name, Role};
use crate::table::{Measured, Phase};
use crate::tester::Tester;

/// Long enough for a machine that does other things too: what takes longer is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a device has nothing to do while its processor time is taken.
const IDLE: Duration = Duration::from_secs(20);

#[derive(Parser)]
#[command(name = "engine")]
struct Flags {
    #[arg(long)]
    quick: bool,
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    #[arg(long, value_enum)]
    load: Vec<Name>,
    #[arg(long, value_enum)]
    device: Vec<Device>,
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(floor::ARGUMENT) {
        return floor::run();
    }
    let Flags { quick, runs, load, device } = Flags::parse();
    let names = if load.is_empty() { Name::value_variants().to_vec() } else { load };
    let mut devices = if device.is_empty() { Device::value_variants().to_vec() } else { device };
    if !devices.contains(&Device::Floor) {
        // Without it no time can be told from the tester's own.
        devices.insert(0, Device::Floor);
    }
    for name in names {
        let load = name.load(quick);
        let mut measured: BTreeMap<Device, Vec<Measured>> = BTreeMap::new();
        scene(name.title(), |scene| {
            let stage = Stage::new(scene, &load)?;
            for _ in 0..runs {
                for &device in &devices {
                    let one = stage
                        .measure(scene, device, &load)
                        .with_context(|| format!("{} under {name:?}", device.name()))?;
                    measured.entry(device).or_default().push(one);
                }
            }
            Ok(())
        })?;
        table::print(name, quick, &measured)?;
    }
    Ok(())
}

/// The machines.
struct Stage {
    device: Namespace,
    feeders: Namespace,
    monitors: Namespace,
}

impl Stage {
    fn new(scene: &Scene, load: &Load) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let addresses = |of_monitors: bool| {
            let clients = load.clients.iter().filter(|client| (client.role == Role::Monitor) == of_monitors);
            clients.map(|client| format!("{}/16", client.address)).collect::<Vec<_>>()
        };
        let machine = |label, addresses: &[String]| {
            fabric.machine(scene, label, &addresses.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Ok(Self {
            device: machine("device", &[format!("{DEVICE}/16")])?,
            feeders: machine("feeders", &addresses(false))?,
            monitors: machine("monitors", &addresses(true))?,
        })
    }

    fn measure(&self, scene: &Scene, device: Device, load: &Load) -> Result<Measured> {
        let process = device.start(scene, &self.device, &load.clients)?;
        let namespace = |role| if role == Role::Monitor { self.monitors.path() } else { self.feeders.path() };
        let mut tester = Tester::connect(&load.clients, &load.nodes, namespace, PATIENCE)?;
        // Whatever a device does after a session has come up, it has done by then.
        tester.idle(Duration::from_millis(500))?;

        let feeds = |bytes: fn(&load::Feed) -> &Arc<[u8]>| {
            load.feeds.iter().map(|feed| Arc::clone(bytes(feed))).collect::<Vec<_>>()
        };
        let run = |tester: &mut Tester, feeds: &[Arc<[u8]>], expected| {
            let before = process.processor_time()?;
            let elapsed = tester.run(feeds, expected, PATIENCE)?;
            anyhow::Ok(Phase { elapsed, processor: process.processor_time()?.saturating_sub(before) })
        };
        let announce = run(&mut tester, &feeds(|feed| &feed.announce), load.expected)?;
        let mut one_prefix = Vec::new();
        let mut idle = None;
        match load.afterwards {
            Afterwards::Nothing => {}
            Afterwards::OnePrefix(times) => {
                let (come, go) = load::one_prefix();
                for _ in 0..times / 2 {
                    one_prefix.push(tester.ping(&come, load.expected + 1, PATIENCE)?);
                    one_prefix.push(tester.ping(&go, load.expected, PATIENCE)?);
                }
            }
            // The floor has no timers.
            Afterwards::Idle if device == Device::Floor => {}
            Afterwards::Idle => {
                let before = process.processor_time()?;
                tester.idle(IDLE)?;
                idle = Some(process.processor_time()?.saturating_sub(before).as_secs_f64() / IDLE.as_secs_f64());
            }
        }
        let withdraw = run(&mut tester, &feeds(|feed| &feed.withdraw), 0)?;
        Ok(Measured { announce, withdraw, memory: process.peak_memory()?, one_prefix, idle })
    }
}
