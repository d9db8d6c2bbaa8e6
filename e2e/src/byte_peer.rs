//! A router of a few lines on plain TCP, that notes when each route came.
//!
//! It accepts one session, takes any OPEN, answers every KEEPALIVE, and never ends a session by itself. What it reads of
//! an UPDATE is only which prefixes it adds and removes: enough to say when a route arrived, with no table in between
//! that would cost time.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// RFC 4271 section 4.1: marker, length, type.
const HEADER: usize = 19;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const KEEPALIVE: u8 = 4;

/// RFC 4760 section 3 and 4.
const MP_REACH: u8 = 14;
const MP_UNREACH: u8 = 15;

/// What stands for the session: shared between the thread that reads and the test that asks.
#[derive(Default)]
struct Heard {
    /// When the present route came, by prefix: as many entries as the test has Services.
    routes: HashMap<String, Instant>,
    established: bool,
    /// How often one has come up.
    sessions: u32,
    /// Why the session ended, in words.
    ended: Option<String>,
}

/// The peer; its threads end with the session, and with the process.
pub struct BytePeer {
    address: SocketAddr,
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

impl BytePeer {
    /// Listens on a free port of `address`, as AS `asn`.
    pub fn listen(address: IpAddr, asn: u32) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr().context("cannot tell the port")?;
        let heard = Arc::<(Mutex<Heard>, Condvar)>::default();
        let shared = Arc::clone(&heard);
        std::thread::spawn(move || {
            // One session after the other: a speaker that reconnects starts with an empty table, as a router's would.
            for stream in listener.incoming().flatten() {
                change(&shared, |heard| *heard = Heard { sessions: heard.sessions, ..Heard::default() });
                let outcome = speak(stream, asn, &shared);
                let reason = outcome.map_or_else(|error| format!("{error:#}"), |()| "closed".to_owned());
                change(&shared, |heard| (heard.established, heard.ended) = (false, Some(reason)));
            }
        });
        Ok(Self { address, heard })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often a session has come up.
    pub fn sessions(&self) -> u32 {
        lock(&self.heard.0).sessions
    }

    /// Waits until the session is up.
    pub fn wait_established(&self, limit: Duration) -> Result<()> {
        self.wait("the session", limit, |heard| heard.established.then_some(()))
    }

    /// Waits until the route to `prefix` is there, and says when it came.
    pub fn wait_for(&self, prefix: &str, limit: Duration) -> Result<Instant> {
        self.wait(prefix, limit, |heard| heard.routes.get(prefix).copied())
    }

    /// Waits until the route to `prefix` is gone.
    pub fn wait_gone(&self, prefix: &str, limit: Duration) -> Result<()> {
        self.wait(&format!("{prefix} to go"), limit, |heard| (!heard.routes.contains_key(prefix)).then_some(()))
    }

    /// Waits until there are `count` routes.
    pub fn wait_for_count(&self, count: usize, limit: Duration) -> Result<()> {
        self.wait(&format!("{count} routes"), limit, |heard| (heard.routes.len() >= count).then_some(()))
    }

    fn wait<T>(&self, what: &str, limit: Duration, probe: impl Fn(&Heard) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        let (mutex, changed) = &*self.heard;
        let mut heard = lock(mutex);
        loop {
            if let Some(value) = probe(&heard) {
                return Ok(value);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!(
                    "waited {limit:?} for: {what}; established: {}, routes: {}, last session ended: {:?}",
                    heard.established,
                    heard.routes.len(),
                    heard.ended
                );
            }
            heard = changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A poisoned lock only means that another thread of this test panicked; what it guards is a note, still readable.
fn lock(mutex: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn change(shared: &(Mutex<Heard>, Condvar), edit: impl FnOnce(&mut Heard)) {
    edit(&mut lock(&shared.0));
    shared.1.notify_all();
}

fn speak(mut stream: TcpStream, asn: u32, shared: &(Mutex<Heard>, Condvar)) -> Result<()> {
    stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    stream.write_all(&open(asn)).context("cannot send the OPEN")?;
    loop {
        let (kind, body) = match read_message(&mut stream) {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(()),
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        match kind {
            OPEN => stream.write_all(&message(KEEPALIVE, &[])).context("cannot send a KEEPALIVE")?,
            KEEPALIVE => {
                change(shared, |heard| {
                    heard.sessions += u32::from(!heard.established);
                    heard.established = true;
                });
                stream.write_all(&message(KEEPALIVE, &[])).context("cannot send a KEEPALIVE")?;
            }
            UPDATE => {
                let (withdrawn, announced) = prefixes(&body).context("an UPDATE that cannot be read")?;
                change(shared, |heard| {
                    for prefix in &withdrawn {
                        heard.routes.remove(prefix);
                    }
                    for prefix in announced {
                        heard.routes.entry(prefix).or_insert(now);
                    }
                });
            }
            kind => bail!("a message of type {kind} with {body:?}"),
        }
    }
}

fn read_message(stream: &mut TcpStream) -> Result<Option<(u8, Vec<u8>)>> {
    let mut header = [0; HEADER];
    if stream.read(&mut header[..1]).context("cannot read")? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..]).context("a header that is cut")?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    ensure!((HEADER..=4096).contains(&length), "a message of {length} bytes");
    let mut body = vec![0; length - HEADER];
    stream.read_exact(&mut body).context("a message that is cut")?;
    Ok(Some((header[18], body)))
}

/// A message of any type with any body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER + body.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0xff; 16];
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// An OPEN with four-octet ASN (RFC 6793) and both unicast families (RFC 4760), and a hold time that ends no test.
pub fn open(asn: u32) -> Vec<u8> {
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    let mut body = vec![4];
    // AS_TRANS where the number does not fit.
    body.extend(u16::try_from(asn).unwrap_or(23456).to_be_bytes());
    body.extend(3600u16.to_be_bytes());
    body.extend([192, 0, 2, 254]);
    let length = u8::try_from(capabilities.len()).unwrap_or(u8::MAX);
    body.extend([length + 2, 2, length]);
    body.extend(capabilities);
    message(OPEN, &body)
}

/// Withdrawn and announced prefixes of an UPDATE, of both families. `None` when the bytes are cut.
fn prefixes(body: &[u8]) -> Option<(Vec<String>, Vec<String>)> {
    let (withdrawn, rest) = counted(body)?;
    let (mut attributes, nlri) = counted(rest)?;
    let mut gone = addresses(withdrawn, false)?;
    let mut come = addresses(nlri, false)?;
    while let [flags, kind, rest @ ..] = attributes {
        // RFC 4271 section 4.3: the extended-length bit.
        let (length, rest) = if flags & 0x10 == 0 {
            (usize::from(*rest.first()?), rest.get(1..)?)
        } else {
            (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?)
        };
        let value = rest.get(..length)?;
        let six = value.get(1) == Some(&2);
        match *kind {
            MP_REACH => {
                let next_hop = usize::from(*value.get(3)?);
                come.extend(addresses(value.get(5 + next_hop..)?, six)?);
            }
            MP_UNREACH => gone.extend(addresses(value.get(3..)?, six)?),
            _ => {}
        }
        attributes = rest.get(length..)?;
    }
    Some((gone, come))
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    Some((bytes.get(2..2 + length)?, bytes.get(2 + length..)?))
}

fn addresses(mut bytes: &[u8], six: bool) -> Option<Vec<String>> {
    let mut prefixes = Vec::new();
    while let [bits, rest @ ..] = bytes {
        let length = usize::from(*bits).div_ceil(8);
        let given = rest.get(..length)?;
        let mut octets = [0; 16];
        octets.get_mut(..length)?.copy_from_slice(given);
        let address = if six {
            IpAddr::from(Ipv6Addr::from(octets))
        } else {
            IpAddr::from(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
        };
        prefixes.push(format!("{address}/{bits}"));
        bytes = rest.get(length..)?;
    }
    Some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_both_families() {
        let six = [0x20, 0x01, 0x0d, 0xb8];
        let mut reach = vec![0x80, MP_REACH, 26, 0, 2, 1, 16];
        reach.extend([0; 16]);
        reach.extend([0, 32]);
        reach.extend(six);
        // One octet more for the prefix length than the sum says: 2 + 1 + 1 + 16 + 1 + 1 + 4.
        assert_eq!(usize::from(reach[2]), reach.len() - 3);
        let mut body = vec![0, 5, 32, 10, 0, 0, 9];
        body.extend(u16::try_from(reach.len()).unwrap().to_be_bytes());
        body.extend(reach);
        body.extend([24, 203, 0, 113]);
        let (gone, come) = prefixes(&body).unwrap();
        assert_eq!(gone, ["10.0.0.9/32"]);
        assert_eq!(come, ["203.0.113.0/24", "2001:db8::/32"]);
    }

    #[test]
    fn what_is_cut_is_no_route() {
        for body in [&[][..], &[0], &[0, 9, 1], &[0, 0, 0, 0, 32, 10], &[0, 0, 0, 3, 0x80, MP_REACH, 9]] {
            assert_eq!(prefixes(body), None, "{body:?}");
        }
    }
}
