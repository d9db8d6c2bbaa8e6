//! The listening sockets, and the keys on them: of TCP MD5 (RFC 2385) and of TCP-AO (RFC 5925).
//!
//! A signed connection is signed from its first SYN on, when nobody has been asked yet whose it is. So the keys of all peers
//! that may connect are on the listening socket, by address or prefix, and the kernel takes the longest match; an accepted
//! socket inherits its key. Some wishes cannot be told apart by that and are refused in words:
//!
//! - one address (or prefix) with two passwords, or with one and without;
//! - two passwords, or one and none, on two unnumbered links, as any address may be on either;
//! - no password for an address inside a prefix that has one: there is no key that says "none";
//! - TCP MD5 for an address inside a prefix with TCP-AO, or the other way round: the kernel takes one of them for an address;
//! - TCP-AO for an address inside a prefix with TCP-AO and the same receive ID: there it is the ID that tells keys apart.
//!
//! What is on a socket follows from the peers as they are: after each change the wanted keys are compared with the ones that
//! are there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tracing::debug;

use super::socket::Key;
use super::{KeyConflict, SetPeerError};
use crate::{DynamicPeers, PeerConfig, PeerKey, Signature};

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    name: PeerKey,
    remote: IpNet,
    /// Our address that they connect to; `None`: any.
    local: Option<IpAddr>,
    key: Option<Key>,
}

const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));

impl Caller {
    /// `None`: we dial them.
    pub(super) fn peer(name: &PeerKey, config: &PeerConfig) -> Option<Self> {
        config.connect.listens().then(|| Self::counterpart(name, config))
    }

    /// Whoever is on the other end, whether they may connect or not.
    pub(super) fn counterpart(name: &PeerKey, config: &PeerConfig) -> Self {
        let remote = match config.transport.unnumbered() {
            // Anybody on the link, and for the kernel that is anybody on any.
            Some(_) => LINK_LOCAL,
            None => config.transport.remote.ip().to_canonical().into(),
        };
        Self::new(name, remote, config)
    }

    pub(super) fn range(name: &PeerKey, peers: &DynamicPeers) -> Self {
        Self::new(name, peers.prefix.trunc(), &peers.template)
    }

    fn new(name: &PeerKey, remote: IpNet, config: &PeerConfig) -> Self {
        Self { name: name.clone(), remote, local: config.transport.source, key: Key::of(&config.transport) }
    }

    /// Refuses a signature that this kernel cannot make or check.
    pub(super) fn check_signature(&self) -> Result<(), SetPeerError> {
        let Some(Key { signature: Signature::TcpAo { algorithm, .. }, .. }) = &self.key else { return Ok(()) };
        let (algorithm, remote) = (*algorithm, self.remote);
        match self.key.as_ref().map_or(Ok(()), |key| key.try_out(remote)) {
            Ok(()) => Ok(()),
            // What the kernel says to an option that it does not have, and to an algorithm.
            Err(source) if matches!(source.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP)) => {
                Err(SetPeerError::NoTcpAo { remote })
            }
            Err(source) if source.raw_os_error() == Some(libc::ENOENT) => {
                Err(SetPeerError::NoAlgorithm { remote, algorithm })
            }
            Err(source) => Err(SetPeerError::TcpAo { remote, source }),
        }
    }

    pub(super) fn name(&self) -> &PeerKey {
        &self.name
    }

    fn may_reach(&self, listening: SocketAddr) -> bool {
        let ip = listening.ip();
        ip.is_ipv4() == self.remote.addr().is_ipv4()
            && (ip.is_unspecified() || self.local.is_none_or(|local| local == ip))
    }

    /// Why no set of keys does what both want.
    fn conflict_with(&self, other: &Self) -> Option<KeyConflict> {
        let overlap = self.remote.contains(&other.remote) || other.remote.contains(&self.remote);
        if !overlap || self.key == other.key && self.remote == other.remote {
            return None;
        }
        let unsigned_within_signed = |inner: &Self, outer: &Self| {
            inner.key.is_none() && outer.key.is_some() && outer.remote.contains(&inner.remote)
        };
        match (&self.key, &other.key) {
            (Some(one), Some(another)) => match (one.signature, another.signature) {
                (Signature::Md5, Signature::Md5) => (self.remote == other.remote).then_some(KeyConflict::Password),
                (Signature::TcpAo { .. }, Signature::TcpAo { .. }) if self.remote == other.remote => {
                    Some(KeyConflict::Key)
                }
                (Signature::TcpAo { receive_id: one, .. }, Signature::TcpAo { receive_id: another, .. }) => {
                    (one == another).then_some(KeyConflict::KeyId)
                }
                (Signature::Md5, Signature::TcpAo { .. }) | (Signature::TcpAo { .. }, Signature::Md5) => {
                    Some(KeyConflict::Signature)
                }
            },
            _ => {
                let conflict = unsigned_within_signed(self, other) || unsigned_within_signed(other, self);
                conflict.then_some(KeyConflict::Password)
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    socket: Arc<TcpListener>,
    address: SocketAddr,
    /// The task that waits for connections and has the socket too.
    accepting: Option<AbortHandle>,
    /// As they are on the socket.
    keys: BTreeMap<IpNet, Key>,
}

impl Listeners {
    /// Takes a socket over, with the keys for those who may reach it.
    pub(super) fn add(&mut self, socket: TcpListener, callers: &[Caller]) -> io::Result<Arc<TcpListener>> {
        let address = socket.local_addr()?;
        let listener = Listener { address, socket: Arc::new(socket), accepting: None, keys: BTreeMap::new() };
        let socket = Arc::clone(&listener.socket);
        self.0.push(listener);
        // They got along as long as nothing listened for them.
        let in_conflict = callers.iter().enumerate().try_for_each(|(at, caller)| self.check(caller, &callers[..at]));
        match in_conflict.and_then(|()| self.set_keys(callers)) {
            Ok(()) => Ok(socket),
            Err(error) => {
                self.0.pop();
                Err(io::Error::other(error))
            }
        }
    }

    /// Who waits on the socket with this address.
    pub(super) fn accept_by(&mut self, address: SocketAddr, accepting: AbortHandle) {
        if let Some(listener) = self.0.iter_mut().find(|listener| listener.address == address) {
            listener.accepting = Some(accepting);
        }
    }

    /// Closes the socket with this address, if there is one.
    pub(super) fn remove(&mut self, address: SocketAddr) {
        for listener in self.0.extract_if(.., |listener| listener.address == address) {
            listener.accepting.inspect(AbortHandle::abort);
            // The task lets go of the socket in its own time, and the address may be wanted again at once.
            if let Err(error) = SockRef::from(&*listener.socket).shutdown(Shutdown::Both) {
                debug!(%address, %error, "the socket was closed already");
            }
        }
    }

    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|listener| listener.address == address)
    }

    pub(super) fn may_be_reached_by(&self, caller: &Caller) -> bool {
        self.0.iter().any(|listener| caller.may_reach(listener.address))
    }

    /// Refuses a caller that cannot be had beside the others.
    pub(super) fn check(&self, caller: &Caller, others: &[Caller]) -> Result<(), SetPeerError> {
        let conflicts = others.iter().filter_map(|other| Some((other, caller.conflict_with(other)?)));
        for (other, conflict) in conflicts {
            let shared = |listener: &&Listener| caller.may_reach(listener.address) && other.may_reach(listener.address);
            if let Some(listener) = self.0.iter().find(shared) {
                return Err(SetPeerError::PasswordConflict {
                    conflict,
                    remote: caller.remote,
                    other: other.name.clone(),
                    other_remote: other.remote,
                    listen: listener.address,
                });
            }
        }
        Ok(())
    }

    /// Puts the keys of these callers on the sockets, and no others.
    pub(super) fn set_keys(&mut self, callers: &[Caller]) -> Result<(), SetPeerError> {
        for listener in &mut self.0 {
            let listen = listener.address;
            listener.set_keys(callers).map_err(|(remote, source)| SetPeerError::Password { listen, remote, source })?;
        }
        Ok(())
    }
}

impl Listener {
    fn set_keys(&mut self, callers: &[Caller]) -> Result<(), (IpNet, io::Error)> {
        let callers = callers.iter().filter(|caller| caller.may_reach(self.address));
        let wanted: BTreeMap<IpNet, Key> =
            callers.filter_map(|caller| Some((caller.remote, caller.key.clone()?))).collect();
        let stays = |remote: &IpNet, key: &Key| wanted.get(remote).is_some_and(|wanted| wanted.replaces(key));
        let gone: Vec<IpNet> =
            self.keys.iter().filter(|(remote, key)| !stays(remote, key)).map(|(remote, _)| *remote).collect();
        for remote in gone {
            if let Some(key) = self.keys.get(&remote) {
                key.take_off(&*self.socket, remote).map_err(|error| (remote, error))?;
            }
            self.keys.remove(&remote);
        }
        for (remote, key) in wanted {
            if self.keys.get(&remote) != Some(&key) {
                key.put_on(&*self.socket, remote).map_err(|error| (remote, error))?;
                self.keys.insert(remote, key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::socket;
    use super::*;
    use crate::{AoAlgorithm, Password};

    fn caller(name: &str, remote: &str, local: Option<&str>, password: Option<&str>) -> Caller {
        Caller {
            name: name.into(),
            remote: remote.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            key: password.map(|password| Key { password: Password::new(password), signature: Signature::Md5 }),
        }
    }

    fn with_tcp_ao(remote: &str, password: &str, receive_id: u8) -> Caller {
        let signature = Signature::TcpAo { algorithm: AoAlgorithm::AesCmac, send_id: 1, receive_id };
        let key = Some(Key { password: Password::new(password), signature });
        Caller { key, ..caller("ao", remote, None, None) }
    }

    #[tokio::test]
    async fn what_the_kernel_cannot_tell_apart_is_refused() {
        let mut anywhere = Listeners::default();
        anywhere.add(socket::listen("0.0.0.0:0".parse().unwrap()).unwrap(), &[]).unwrap();
        let mut two = Listeners::default();
        for address in ["127.0.0.1:0", "127.0.0.2:0"] {
            two.add(socket::listen(address.parse().unwrap()).unwrap(), &[]).unwrap();
        }
        let (first, second) = (Some("127.0.0.1"), Some("127.0.0.2"));
        let host = "192.0.2.1/32";
        let prefix = "192.0.2.0/24";
        // Remote, local and password of either; whether both can be had on a socket for everything, and on one for each.
        let cases = [
            ("same password", (host, None, Some("a")), (host, None, Some("a")), true, true),
            ("other password", (host, None, Some("a")), (host, None, Some("b")), false, false),
            ("with and without", (host, None, Some("a")), (host, None, None), false, false),
            ("told apart by our address", (host, first, Some("a")), (host, second, Some("b")), false, true),
            ("told apart on one side only", (host, first, Some("a")), (host, None, Some("b")), false, false),
            ("other address", (host, None, Some("a")), ("192.0.2.2/32", None, Some("b")), true, true),
            ("other password inside a prefix", (host, None, Some("a")), (prefix, None, Some("b")), true, true),
            ("password inside a prefix without", (host, None, Some("a")), (prefix, None, None), true, true),
            ("none inside a prefix with", (host, None, None), (prefix, None, Some("b")), false, false),
            ("prefix inside a prefix", ("192.0.2.0/28", None, None), (prefix, None, Some("b")), false, false),
            ("other family", (host, None, None), ("::/0", None, Some("b")), true, true),
        ];
        for (name, one, other, on_one_socket, on_two) in cases {
            let of = |(remote, local, password)| caller("one", remote, local, password);
            for (caller, other) in [(of(one), of(other)), (of(other), of(one))] {
                assert_eq!(anywhere.check(&caller, std::slice::from_ref(&other)).is_ok(), on_one_socket, "{name}");
                assert_eq!(two.check(&caller, &[other]).is_ok(), on_two, "{name}");
            }
        }
        let message = anywhere
            .check(&caller("new", host, None, None), &[caller("clients", prefix, None, Some("s3cret"))])
            .unwrap_err()
            .to_string();
        assert!(
            message.starts_with("192.0.2.1/32 cannot have another password than 192.0.2.0/24 of clients"),
            "{message}"
        );
        assert!(!message.contains("s3cret"));
    }

    #[tokio::test]
    async fn an_address_has_one_kind_of_signature() {
        let mut anywhere = Listeners::default();
        anywhere.add(socket::listen("0.0.0.0:0".parse().unwrap()).unwrap(), &[]).unwrap();
        let (host, prefix, elsewhere) = ("192.0.2.1/32", "192.0.2.0/24", "198.51.100.0/24");
        let md5 = |remote| caller("md5", remote, None, Some("a"));
        let ao = with_tcp_ao;
        let cases = [
            ("the same twice", ao(host, "a", 1), ao(host, "a", 1), None),
            ("other key", ao(host, "a", 1), ao(host, "b", 1), Some("another key of TCP-AO")),
            ("other ID at one address", ao(host, "a", 1), ao(host, "a", 2), Some("another key of TCP-AO")),
            ("other ID in a prefix", ao(host, "a", 1), ao(prefix, "b", 2), None),
            ("same ID in a prefix", ao(host, "a", 1), ao(prefix, "a", 1), Some("another receive ID")),
            ("MD5 beside it", ao(host, "a", 1), md5(host), Some("another of TCP MD5 and TCP-AO")),
            ("MD5 around it", ao(host, "a", 1), md5(prefix), Some("another of TCP MD5 and TCP-AO")),
            ("MD5 inside it", ao(prefix, "a", 1), md5(host), Some("another of TCP MD5 and TCP-AO")),
            ("MD5 elsewhere", ao(prefix, "a", 1), md5(elsewhere), None),
            ("unsigned inside it", ao(prefix, "a", 1), caller("b", host, None, None), Some("another password")),
            ("unsigned around it", ao(host, "a", 1), caller("b", prefix, None, None), None),
        ];
        for (name, one, other, expected) in cases {
            for (caller, other) in [(&one, &other), (&other, &one)] {
                let message = anywhere.check(caller, std::slice::from_ref(other)).err().map(|error| error.to_string());
                match (&message, expected) {
                    (None, None) => {}
                    (Some(message), Some(part)) => assert!(message.contains(part), "{name}: {message}"),
                    _ => panic!("{name}: {message:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn a_socket_that_peers_in_conflict_would_reach_is_refused() {
        let mut listeners = Listeners::default();
        let callers =
            [caller("a", "192.0.2.1/32", None, Some("a")), caller("b", "192.0.2.1/32", Some("127.0.0.2"), Some("b"))];
        let mut add = |address: &str| listeners.add(socket::listen(address.parse().unwrap()).unwrap(), &callers);
        let error = add("127.0.0.2:0").expect_err("both may reach it").to_string();
        assert!(error.contains("192.0.2.1/32 of a"), "{error}");
        add("127.0.0.1:0").expect("one of them connects to another address");
        assert_eq!(listeners.0.len(), 1);
    }

    #[tokio::test]
    async fn keys_follow_the_callers() {
        let mut listeners = Listeners::default();
        listeners.add(socket::listen("[::1]:0".parse().unwrap()).unwrap(), &[]).unwrap();
        listeners.add(socket::listen("127.0.0.1:0".parse().unwrap()).unwrap(), &[]).unwrap();
        let keys = |listeners: &Listeners| -> Vec<Vec<String>> {
            let of = |listener: &Listener| {
                listener.keys.iter().map(|(remote, key)| format!("{remote} {}", key.password.reveal())).collect()
            };
            listeners.0.iter().map(of).collect()
        };
        let all = [
            caller("a", "192.0.2.1/32", None, Some("a")),
            caller("b", "10.0.0.0/8", None, Some("b")),
            caller("c", "2001:db8::/32", None, Some("c")),
            caller("d", "2001:db8::1/128", None, Some("d")),
            caller("e", "198.51.100.1/32", None, None),
        ];
        listeners.set_keys(&all).unwrap();
        let v6 = ["2001:db8::/32 c", "2001:db8::1/128 d"];
        assert_eq!(keys(&listeners), [v6.to_vec(), vec!["10.0.0.0/8 b", "192.0.2.1/32 a"]]);
        let changed = caller("b", "10.0.0.0/8", None, Some("new"));
        listeners.set_keys(&[all[2].clone(), changed]).unwrap();
        assert_eq!(keys(&listeners), [vec!["2001:db8::/32 c"], vec!["10.0.0.0/8 new"]]);
        listeners.set_keys(&[]).unwrap();
        assert_eq!(keys(&listeners), [Vec::<String>::new(), vec![]]);
    }
}
