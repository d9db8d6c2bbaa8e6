//! What is announced beside blocks of IPv4: single addresses, and blocks of IPv6; and the block of a node that is taken for lost, and goes
//! on announcing it.

use anyhow::{Context, Result, ensure};
use roadstead_e2e::routers::Router;
use roadstead_e2e::{Scene, output_of, scene, wait_until};
use serde_json::{Value, json};

use super::{NODES, NODES_IPV6, SOON, Stage, address_of};

const POOLS: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: wandering, labels: {routed: 'yes'}}
spec: {subnet: 10.80.0.0/24, ranges: [10.80.0.10-10.80.0.19], advertise: Address}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: six, labels: {routed: 'yes'}}
spec: {subnet: '2001:db8:64::/112', blockPrefixLength: 124, advertise: Block}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: underlay, labels: {routed: 'yes'}}
spec: {subnet: 10.64.0.0/24, blockPrefixLength: 28, advertise: Block, default: true}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: pods}
spec: {from: [{podPools: {selector: {matchLabels: {routed: 'yes'}}}}]}
";
/// Each node is an AS of its own, or a route of one would be none for the other: it has been there.
const ASNS: [u32; 2] = [64501, 64502];

/// Both nodes accept from FRR what the other announces.
fn peers() -> String {
    let routers = [("frr", "10.99.0.1", 64512), ("bird", "10.99.0.2", 64513)];
    let all = NODES.iter().zip(ASNS).flat_map(|((node, _), own)| {
        routers.map(|(name, address, asn)| {
            format!(
                "---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {name}-{node}}}
spec:
  localASN: {own}
  peerASN: {asn}
  address: {address}
  nodeSelector: {{matchLabels: {{kubernetes.io/hostname: {node}}}}}
  timers: {{connectRetrySeconds: 1}}
  gracefulRestart: {{enabled: false}}
  import: {{accept: [{{prefix: 10.64.0.0/24, le: 28}}]}}
"
            )
        })
    });
    all.collect()
}

impl Stage<'_> {
    fn add_from(&self, node: usize, container: &str, pool: &str, requested: &[&str]) -> Result<String> {
        let mut config = self.config(node);
        config["ipam"]["pools"] = json!([pool]);
        config["runtimeConfig"] = json!({ "ips": requested });
        Ok(address_of(&self.call_with(node, "ADD", container, &config)?)?.to_string())
    }

    /// Fails unless both routers know a prefix by exactly these next hops.
    fn ensure_both(&self, prefix: &str, next_hops: &[&str]) -> Result<()> {
        self.frr.ensure_next_hops(prefix, next_hops)?;
        self.bird.ensure_next_hops(prefix, next_hops)
    }

    fn claim_of(&self, cidr: &str) -> Result<Option<Value>> {
        let list = self.plane.get("addressclaims")?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        Ok(items.into_iter().find(|item| item["spec"]["cidr"] == cidr))
    }

    /// Fails unless nobody has a claim and no router a route any more; at once and for good when there is no claim, and yet a route.
    fn ensure_gone(&self, cidr: &str) -> Result<()> {
        let claim = self.claim_of(cidr)?;
        if claim.is_none() {
            self.ensure_both(cidr, &[]).with_context(|| format!("{cidr} is nobody's, and still announced"))?;
        }
        ensure!(claim.is_none(), "{claim:?}");
        Ok(())
    }
}

#[test]
fn single_addresses_and_a_lost_node_that_goes_on() -> Result<()> {
    scene("pod-routes-single", routes)
}

fn routes(scene: &Scene) -> Result<()> {
    let stage = Stage::build_with(scene, &format!("{POOLS}{}", peers()), ASNS)?;
    single_addresses(&stage)?;
    scene.step("a single address is a route for as long as a pod has it, and nobody's before it is withdrawn");
    ipv6_blocks(&stage)?;
    scene.step("a block of IPv6 is held and announced");
    goes_on(&stage)?;
    scene.step("the block of a node that is taken for lost stays its own for as long as a router knows the way there");
    Ok(())
}

fn single_addresses(stage: &Stage<'_>) -> Result<()> {
    let address = stage.add_from(0, "s1", "wandering", &[])?;
    let cidr = format!("{address}/32");
    wait_until("both routers know the address", SOON, || stage.ensure_both(&cidr, &[NODES[0].1]))?;
    let claim = stage.claim_of(&cidr)?.context("no claim")?;
    ensure!(claim["spec"]["nodeName"] == NODES[0].0, "{claim}");
    stage.call(0, "DEL", "s1")?;
    wait_until("it is withdrawn, and then nobody's", SOON, || stage.ensure_gone(&cidr))?;
    let again = stage.add_from(1, "s2", "wandering", &[&address])?;
    ensure!(again == address, "asked for {address}, and has {again}");
    wait_until("both routers know it by the other node", SOON, || stage.ensure_both(&cidr, &[NODES[1].1]))?;
    stage.call(1, "DEL", "s2")?;
    wait_until("it is withdrawn once more", SOON, || stage.ensure_gone(&cidr))
}

fn ipv6_blocks(stage: &Stage<'_>) -> Result<()> {
    for (node, next_hop) in NODES_IPV6.iter().enumerate() {
        let address = stage.add_from(node, "six", "six", &[])?;
        let blocks = stage.blocks(node)?;
        let block = blocks.iter().find(|block| block.contains(':')).context("no block of IPv6")?;
        let net: (&str, &str) = block.split_once('/').context("no length")?;
        let (first, given): (std::net::Ipv6Addr, std::net::Ipv6Addr) = (net.0.parse()?, address.parse()?);
        ensure!(net.1 == "124" && first.to_bits() == given.to_bits() & !0xf, "{address} is not in {block}");
        wait_until("both routers know the block", SOON, || stage.ensure_both(block, &[next_hop]))?;
        let held = stage.machines[node].ip("-6 route show type unreachable proto 179")?;
        ensure!(held.contains(block.as_str()), "the kernel does not hold {block}: {held}");
    }
    Ok(())
}

/// The other node has lost the API server, and not its routers: it announces what it had, because nobody can tell it better. Its Node
/// object is deleted meanwhile.
fn goes_on(stage: &Stage<'_>) -> Result<()> {
    stage.add(1, "c1")?;
    let blocks = stage.blocks(1)?;
    let block = blocks.iter().find(|block| block.contains('.')).context("no block of IPv4")?.clone();
    wait_until("both routers know its block", SOON, || stage.ensure_both(&block, &[NODES[1].1]))?;
    let cut = "add table inet cut; add chain inet cut input { type filter hook input priority 0; }; \
               add rule inet cut input ip saddr 10.99.0.100 drop";
    output_of(stage.machines[1].command("nft").arg(cut))?;
    stage.plane.kubectl("delete node node-2")?;
    // Where there is a garbage collector the report goes with the node.
    stage.plane.kubectl("delete nodereport node-2")?;
    wait_until("the controller marks the block", SOON, || {
        let claim = stage.claim_of(&block)?.context("the claim is gone, and the block is still announced")?;
        ensure!(claim["spec"]["released"].is_string(), "{claim}");
        Ok(())
    })?;
    wait_until("the other node says that it hears of it", SOON, || {
        let report = stage.plane.get("nodereport node-1")?;
        let heard = report.pointer("/status/pods/heard").cloned().unwrap_or_default();
        ensure!(heard.as_array().is_some_and(|heard| heard.contains(&json!(block))), "{report}");
        Ok(())
    })?;
    // Longer than the wait after the mark, so it is what was heard that keeps the claim.
    std::thread::sleep(std::time::Duration::from_secs(25));
    stage.claim_of(&block)?.context("the claim is gone, and the block is still announced")?;
    stage.ensure_both(&block, &[NODES[1].1])?;

    // The API server is back: there is no such node any more, so it withdraws, and then the block is nobody's.
    output_of(stage.machines[1].command("nft").arg("delete table inet cut"))?;
    wait_until("the lost node's block is nobody's", SOON * 2, || stage.ensure_gone(&block))
}
