//! TCP-AO (RFC 5925). Which half of each test runs is the kernel's doing: with CONFIG_TCP_AO sessions come up and stay down as
//! the keys say, and without it they are refused in words.

use super::super::sockopt::tests::kernel_has_tcp_ao;
use super::super::{KeyConflict, SetPeerError};
use super::*;
use crate::{AoAlgorithm, Signature};

fn sign(config: &mut PeerConfig, password: &str, algorithm: AoAlgorithm, (send_id, receive_id): (u8, u8)) {
    config.transport.password = Some(Password::new(password));
    config.transport.signature = Signature::TcpAo { algorithm, send_id, receive_id };
}

/// Says which address, by what, and what is missing, and leaves nobody behind.
async fn ensure_refused(handle: &Handle, refused: Result<(), SetPeerError>, remote: &str) {
    let error = refused.expect_err("this kernel has no TCP-AO");
    assert!(matches!(error, SetPeerError::NoTcpAo { .. }), "{error:?}");
    let words = error.to_string();
    for part in [remote, "TCP-AO (RFC 5925)", "CONFIG_TCP_AO", "the session stays down"] {
        assert!(words.contains(part), "{words} lacks {part}");
    }
    assert!(handle.status().await.unwrap().is_empty() && handle.dynamic_status().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_session_is_signed_by_tcp_ao_or_is_none() {
    for algorithm in [AoAlgorithm::HmacSha1, AoAlgorithm::AesCmac] {
        for (listen, source) in [("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")] {
            let (router, mut router_events) = start(&[listen], 1);
            let (node, mut node_events) = start(&[], 2);
            let (mut at_node, mut at_router) = (node_config(router.listening()[0]), router_config());
            at_node.transport.source = Some(source.parse().unwrap());
            at_router.transport.remote = SocketAddr::new(source.parse().unwrap(), 179);
            sign(&mut at_node, "s3cret", algorithm, (1, 2));
            sign(&mut at_router, "s3cret", algorithm, (2, 1));
            let taken = router.set_peer("node".into(), at_router.clone()).await;
            if !kernel_has_tcp_ao() {
                ensure_refused(&router, taken, source).await;
                // Whoever only dials hears it before anything is dialled.
                let remote = router.listening()[0].ip().to_string();
                let taken = node.set_peer("router".into(), at_node).await;
                ensure_refused(&node, taken, &remote).await;
                continue;
            }
            taken.unwrap();
            node.set_peer("router".into(), at_node.clone()).await.unwrap();
            up(&mut node_events).await;
            up(&mut router_events).await;
            // Another key, another KeyID, TCP MD5 and nothing at all: each is silence to the other side.
            for spoil in [
                |config: &mut PeerConfig| config.transport.password = Some(Password::new("another")),
                |config: &mut PeerConfig| config.transport.signature = Signature::Md5,
                |config: &mut PeerConfig| config.transport.password = None,
            ] {
                let mut spoilt = at_node.clone();
                spoil(&mut spoilt);
                node.set_peer("router".into(), spoilt).await.unwrap();
                assert!(down(&mut node_events).await.contains("configuration changed"));
                assert!(down(&mut node_events).await.contains("no answer"));
            }
            node.set_peer("router".into(), at_node).await.unwrap();
            up(&mut node_events).await;
        }
    }
}

#[tokio::test]
async fn a_prefix_is_signed_by_tcp_ao_or_lets_nobody_in() {
    let (hub, mut hub_events) = start(&["127.0.0.1:0"], 1);
    let mut template = router_config();
    sign(&mut template, "s3cret", AoAlgorithm::HmacSha1, (7, 7));
    let mut peers = DynamicPeers { prefix: "127.1.0.0/16".parse().unwrap(), max_sessions: 2, template };
    let taken = hub.set_dynamic_peers("clients".into(), peers.clone()).await;
    if !kernel_has_tcp_ao() {
        ensure_refused(&hub, taken, "127.1.0.0/16").await;
        // Not even without a signature.
        let (_stranger, mut events) = client(&hub, "127.1.0.2", None).await;
        down(&mut events).await;
        assert!(hub.status().await.unwrap().is_empty());
        return;
    }
    taken.unwrap();
    let (node, mut events) = start(&[], 2);
    let mut config = node_config(hub.listening()[0]);
    config.transport.source = Some("127.1.0.2".parse().unwrap());
    sign(&mut config, "s3cret", AoAlgorithm::HmacSha1, (7, 7));
    node.set_peer("hub".into(), config.clone()).await.unwrap();
    up(&mut events).await;
    up(&mut hub_events).await;
    // The kernel replaces no key of TCP-AO, so the old one has to go first.
    sign(&mut peers.template, "changed", AoAlgorithm::HmacSha1, (7, 7));
    hub.set_dynamic_peers("clients".into(), peers).await.unwrap();
    down(&mut hub_events).await;
    sign(&mut config, "changed", AoAlgorithm::HmacSha1, (7, 7));
    node.set_peer("hub".into(), config).await.unwrap();
    up(&mut hub_events).await;
}

/// A peer that has a session with TCP MD5 is not moved to TCP-AO in silence, nor left without either.
#[tokio::test]
async fn another_signature_is_refused_before_anything_changes() {
    let mut pair = pair(|node, router| {
        node.transport.password = Some(Password::new("s3cret"));
        router.transport.password = Some(Password::new("s3cret"));
    })
    .await;
    up(&mut pair.router_events).await;
    let mut other = router_config();
    sign(&mut other, "s3cret", AoAlgorithm::AesCmac, (1, 1));
    let taken = pair.router.set_peer("another".into(), other.clone()).await.expect_err("the address has TCP MD5");
    if kernel_has_tcp_ao() {
        assert!(matches!(taken, SetPeerError::PasswordConflict { conflict: KeyConflict::Signature, .. }), "{taken:?}");
    } else {
        assert!(matches!(taken, SetPeerError::NoTcpAo { .. }), "{taken:?}");
    }
    let taken = pair.router.set_peer("node".into(), other).await;
    assert_eq!(taken.is_ok(), kernel_has_tcp_ao(), "{taken:?}");
    let state = status(&pair.router).await.state;
    assert_eq!(state == SessionState::Established, !kernel_has_tcp_ao(), "the engine keeps what it had: {state}");
}
