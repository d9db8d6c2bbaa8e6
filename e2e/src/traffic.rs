//! Packets from one machine to another and back, counted: what a restart costs is what does not come back.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::network::Namespace;

/// Between two packets.
const PAUSE: Duration = Duration::from_millis(5);
/// How long the last answers may take, on a machine that has other things to do.
const LATE: Duration = Duration::from_secs(2);
/// How long a thread that has nothing to read waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// A stream of numbered UDP packets, each of which is sent back. Ends when dropped.
pub struct Stream {
    address: IpAddr,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    sending: Arc<AtomicBool>,
    running: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Where it went.
    pub address: IpAddr,
    pub sent: u64,
    pub lost: u64,
}

impl Stream {
    /// Sends from one machine to an address that is the other's.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<Self> {
        let echo =
            to.within(move || UdpSocket::bind((address, 0)))?.with_context(|| format!("{address} is not there"))?;
        let there = echo.local_addr().context("cannot tell the port")?;
        let any: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = from.within(move || {
            let socket = UdpSocket::bind(any)?;
            socket.connect(there)?;
            Ok::<_, std::io::Error>(socket)
        })?;
        let socket = socket.with_context(|| format!("no way to {address}"))?;
        for socket in [&echo, &socket] {
            socket.set_read_timeout(Some(LOOK)).context("cannot bound a wait")?;
        }
        let mut stream = Self {
            address,
            sent: Arc::default(),
            answered: Arc::default(),
            sending: Arc::new(AtomicBool::new(true)),
            running: Arc::new(AtomicBool::new(true)),
            threads: Vec::new(),
        };
        let running = Arc::clone(&stream.running);
        stream.threads.push(std::thread::spawn(move || answer(&echo, &running)));
        let ear = socket.try_clone().context("cannot share a socket")?;
        let (running, answered) = (Arc::clone(&stream.running), Arc::clone(&stream.answered));
        stream.threads.push(std::thread::spawn(move || listen(&ear, &running, &answered)));
        let (sending, sent) = (Arc::clone(&stream.sending), Arc::clone(&stream.sent));
        stream.threads.push(std::thread::spawn(move || {
            while sending.load(Ordering::Relaxed) {
                // One that cannot even leave (no route, an ICMP error of an earlier one) is as lost as any other.
                let _ = socket.send(&sent.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                std::thread::sleep(PAUSE);
            }
        }));
        Ok(stream)
    }

    /// How many were sent by now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, waits for the last answers, and counts.
    pub fn finish(mut self) -> Result<Count> {
        self.sending.store(false, Ordering::Relaxed);
        // The sender is the last; it ends by itself now, and only then its count is final.
        let sender = self.threads.pop().context("no sender")?;
        sender.join().map_err(|_| anyhow!("the sender panicked"))?;
        let deadline = Instant::now() + LATE;
        let count = |stream: &Self| {
            let sent = stream.sent();
            Count { address: stream.address, sent, lost: sent.saturating_sub(stream.answered.load(Ordering::Relaxed)) }
        };
        while count(&self).lost > 0 && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        Ok(count(&self))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sending.store(false, Ordering::Relaxed);
        self.running.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // They do not panic, and nobody could be told.
            let _ = thread.join();
        }
    }
}

fn answer(socket: &UdpSocket, running: &AtomicBool) {
    let mut packet = [0; 8];
    while running.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut packet) {
            // Without a way back it is lost, and counted as that by who waits for it.
            let _ = socket.send_to(&packet[..length], from);
        }
    }
}

/// Counts each number once: they come back in order, if at all.
fn listen(socket: &UdpSocket, running: &AtomicBool, answered: &AtomicU64) {
    let mut packet = [0; 8];
    let mut next = 0;
    while running.load(Ordering::Relaxed) {
        match socket.recv(&mut packet) {
            Ok(8) if u64::from_be_bytes(packet) >= next => {
                next = u64::from_be_bytes(packet) + 1;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(error)
                if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                // ICMP errors come as errors of the socket; the packets that they are about do not come back.
                std::thread::sleep(PAUSE);
            }
            _ => {}
        }
    }
}
