use std::time::Duration;

use jiff::Timestamp;

use super::*;

/// A peer of two nodes, and what happens to it.
struct Story {
    conditions: Conditions,
    now: Now,
}

impl Story {
    fn begin(peer: &str) -> Self {
        let now = Now { instant: Instant::now(), wall: "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() };
        let mut story = Self { conditions: Conditions::default(), now };
        story.peer(peer);
        story.conditions.handle_synced(now);
        story
    }

    fn peer(&mut self, spec: &str) -> Option<Event> {
        self.conditions.apply_peer(&BgpPeer::new("tor", serde_json::from_str(spec).unwrap()))
    }

    fn advertisement(&mut self, spec: &str) {
        self.conditions.apply_advertisement(&kinds::Advertisement::new("adv", serde_json::from_str(spec).unwrap()));
    }

    fn report(&mut self, node: &str, heartbeat: &str, state: &str, last_error: Option<&str>) {
        let session = serde_json::json!({
            "peer": "tor", "address": "192.0.2.1", "state": state, "sent": 0, "received": 0, "accepted": 0,
            "refused": {}, "lastError": last_error
        });
        let report = serde_json::json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "NodeReport",
            "metadata": {"name": node}, "spec": {"nodeName": node},
            "status": {"heartbeat": heartbeat, "established": "", "prefixes": 0, "sessions": [session]}
        });
        self.conditions.apply_report(self.now, &serde_json::from_value(report).unwrap());
    }

    fn wait(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
        self.conditions.handle_deadline(self.now);
    }

    /// The next write; `None`: there is none.
    fn written(&mut self) -> Option<String> {
        let write = self.conditions.poll_write(self.now)?;
        let (sessions, conditions) = match &write {
            StatusWrite::Peer(_, status) => (status.sessions.clone(), &status.conditions),
            StatusWrite::Advertisement(_, status) => (None, &status.conditions),
        };
        let condition = &conditions[0];
        let sessions = sessions.map(|sessions| format!("{sessions} ")).unwrap_or_default();
        let text = format!("{sessions}{:?} {}: {}", condition.status, condition.reason, condition.message);
        self.conditions.finish(self.now, &write, true);
        Some(text)
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        self.wait(1);
        assert_eq!(self.written().as_deref(), Some(expected));
        self.wait(1);
        assert_eq!(self.written(), None, "once is enough");
    }
}

const PEER: &str = r#"{"address":"192.0.2.1","peerASN":64512}"#;

#[test]
fn a_peer_is_what_its_nodes_report() {
    let mut story = Story::begin(PEER);
    story.expect("Unknown NoReports: no node has reported a session with this peer");
    story.report("node-1", "1", "Established", None);
    story.expect("1/1 True Established: all sessions established: 1");
    story.report("node-2", "1", "Active", Some("connection refused"));
    story.expect("1/2 False SessionsDown: 1 of 2 sessions not established: node-2: Active: connection refused");
    story.report("node-2", "2", "Established", None);
    story.expect("2/2 True Established: all sessions established: 2");
    story.conditions.delete_report("node-2");
    story.expect("1/1 True Established: all sessions established: 1");
}

#[test]
fn a_node_that_falls_silent_is_known_by_our_own_clock() {
    let mut story = Story::begin(PEER);
    story.report("node-1", "1999-01-01T00:00:00Z", "Established", None);
    story.expect("1/1 True Established: all sessions established: 1");
    story.wait(60);
    story.report("node-1", "1999-01-01T00:00:30Z", "Established", None);
    story.wait(60);
    assert_eq!(story.written(), None, "heard of a minute ago");
    story.wait(31);
    story.expect("0/1 Unknown Silent: 1 of 1 nodes are silent: node-1");
    story.report("node-1", "1999-01-01T00:02:00Z", "Established", None);
    story.expect("1/1 True Established: all sessions established: 1");
}

#[test]
fn a_peer_that_cannot_be_read() {
    let mut story = Story::begin(PEER);
    story.expect("Unknown NoReports: no node has reported a session with this peer");
    let reserved = story.peer(r#"{"address":"192.0.2.1","peerASN":23456}"#);
    assert!(
        matches!(reserved, Some(Event::Reserved(_, addresses)) if addresses.len() == 1),
        "its address stays reserved"
    );
    story.expect(
        "False Invalid: the last good version stays in force: BGPPeer tor: spec.peerASN: \"23456\": \
         is AS_TRANS (RFC 6793) and nobody's own ASN; allowed: 1 to 4294967295 but 23456",
    );
}

#[test]
fn an_advertisement_that_nobody_hears() {
    let mut story = Story::begin(PEER);
    story.expect("Unknown NoReports: no node has reported a session with this peer");
    story.advertisement(r#"{"from":[{"loadBalancers":{}}],"peers":["tor-a"]}"#);
    story.expect("False NoPeers: in force, but it selects no BGPPeer that there is, so nobody is told anything");
    story.advertisement(r#"{"from":[{"loadBalancers":{}}]}"#);
    story.expect("True InForce: in force");
    story.conditions.delete_peer("tor");
    story.expect("False NoPeers: in force, but it selects no BGPPeer that there is, so nobody is told anything");
}
