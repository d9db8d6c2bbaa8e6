//! The listening sockets, and the TCP MD5 keys on them (RFC 2385).
//!
//! A signed connection is signed from its first SYN on, when nobody has been asked yet whose it is. So the keys of all peers
//! that may connect are on the listening socket, by address or prefix, and the kernel takes the longest match; an accepted
//! socket inherits its key. Some wishes cannot be told apart by that and are refused in words:
//!
//! - one address (or prefix) with two passwords, or with one and without;
//! - two passwords, or one and none, on two unnumbered links, as any address may be on either;
//! - no password for an address inside a prefix that has one: there is no key that says "none".
//!
//! What is on a socket follows from the peers as they are: after each change the wanted keys are compared with the ones that
//! are there.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv6Net};
use tokio::net::TcpListener;

use super::{SetPeerError, socket};
use crate::{DynamicPeers, Password, PeerConfig, PeerKey};

/// Somebody who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    name: PeerKey,
    remote: IpNet,
    /// Our address that they connect to; `None`: any.
    local: Option<IpAddr>,
    password: Option<Password>,
}

const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10));

impl Caller {
    /// `None`: we dial them.
    pub(super) fn peer(name: &PeerKey, config: &PeerConfig) -> Option<Self> {
        let remote = match config.transport.unnumbered() {
            // Anybody on the link, and for the kernel that is anybody on any.
            Some(_) => LINK_LOCAL,
            None => config.transport.remote.ip().to_canonical().into(),
        };
        config.connect.listens().then(|| Self::new(name, remote, config))
    }

    pub(super) fn range(name: &PeerKey, peers: &DynamicPeers) -> Self {
        Self::new(name, peers.prefix.trunc(), &peers.template)
    }

    fn new(name: &PeerKey, remote: IpNet, config: &PeerConfig) -> Self {
        let transport = &config.transport;
        Self { name: name.clone(), remote, local: transport.source, password: transport.password.clone() }
    }

    pub(super) fn name(&self) -> &PeerKey {
        &self.name
    }

    fn may_reach(&self, listening: SocketAddr) -> bool {
        let ip = listening.ip();
        ip.is_ipv4() == self.remote.addr().is_ipv4()
            && (ip.is_unspecified() || self.local.is_none_or(|local| local == ip))
    }

    /// Whether no set of keys does what both want.
    fn conflicts_with(&self, other: &Self) -> bool {
        let unsigned_within_signed = |inner: &Self, outer: &Self| {
            inner.password.is_none() && outer.password.is_some() && outer.remote.contains(&inner.remote)
        };
        if self.remote == other.remote {
            self.password != other.password
        } else {
            unsigned_within_signed(self, other) || unsigned_within_signed(other, self)
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

#[derive(Debug)]
struct Listener {
    socket: Arc<TcpListener>,
    address: SocketAddr,
    /// As they are on the socket.
    keys: BTreeMap<IpNet, Password>,
}

impl Listeners {
    /// Takes a socket over, with the keys for those who may reach it.
    pub(super) fn add(&mut self, socket: TcpListener, callers: &[Caller]) -> io::Result<Arc<TcpListener>> {
        let listener = Listener { address: socket.local_addr()?, socket: Arc::new(socket), keys: BTreeMap::new() };
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

    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|listener| listener.address == address)
    }

    pub(super) fn may_be_reached_by(&self, caller: &Caller) -> bool {
        self.0.iter().any(|listener| caller.may_reach(listener.address))
    }

    /// Refuses a caller that cannot be had beside the others.
    pub(super) fn check(&self, caller: &Caller, others: &[Caller]) -> Result<(), SetPeerError> {
        for other in others.iter().filter(|other| caller.conflicts_with(other)) {
            let shared = |listener: &&Listener| caller.may_reach(listener.address) && other.may_reach(listener.address);
            if let Some(listener) = self.0.iter().find(shared) {
                return Err(SetPeerError::PasswordConflict {
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
        let wanted: BTreeMap<IpNet, Password> =
            callers.filter_map(|caller| Some((caller.remote, caller.password.clone()?))).collect();
        let gone: Vec<IpNet> = self.keys.keys().filter(|remote| !wanted.contains_key(*remote)).copied().collect();
        for remote in gone {
            socket::set_password(&*self.socket, remote, None).map_err(|error| (remote, error))?;
            self.keys.remove(&remote);
        }
        for (remote, password) in wanted {
            if self.keys.get(&remote) != Some(&password) {
                socket::set_password(&*self.socket, remote, Some(&password)).map_err(|error| (remote, error))?;
                self.keys.insert(remote, password);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str, remote: &str, local: Option<&str>, password: Option<&str>) -> Caller {
        Caller {
            name: name.into(),
            remote: remote.parse().unwrap(),
            local: local.map(|local| local.parse().unwrap()),
            password: password.map(Password::new),
        }
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
                listener.keys.iter().map(|(remote, password)| format!("{remote} {}", password.reveal())).collect()
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
