//! Settings of the kernel under which learned routes are in vain.

use std::collections::BTreeSet;
use std::path::PathBuf;

const IPV4: &str = "/proc/sys/net/ipv4/conf";
const IPV6: &str = "/proc/sys/net/ipv6/conf";

/// What is wrong, for routes that lead out of these interfaces: each names the file, the value and what is allowed. What cannot be read is
/// not judged. Asked by a thread in the network namespace that it is about: the kernel shows each its own.
pub(super) fn problems(ipv4: &BTreeSet<&str>, ipv6: &BTreeSet<&str>) -> BTreeSet<String> {
    let mut problems = BTreeSet::new();
    for interface in ipv4 {
        problems.extend(strict_source_check(interface));
        problems.extend(no_forwarding(IPV4, interface));
    }
    for _ in ipv6 {
        // IPv6 asks this one file alone whether packets pass through at all.
        problems.extend(no_forwarding(IPV6, "all"));
    }
    problems
}

/// The stricter of both is in force; RFC 3704 section 2.2 is what 1 means.
fn strict_source_check(interface: &str) -> Option<String> {
    let (of_all, own) = (read(IPV4, "all", "rp_filter"), read(IPV4, interface, "rp_filter"));
    let (file, value) = if own >= of_all {
        (path(IPV4, interface, "rp_filter"), own?)
    } else {
        (path(IPV4, "all", "rp_filter"), of_all?)
    };
    (value == 1).then(|| {
        format!(
            "{} is 1 (strict): a packet whose answer would leave by another interface than {interface} is dropped; \
             0 (off) and 2 (loose) let it pass",
            file.display()
        )
    })
}

fn no_forwarding(directory: &str, interface: &str) -> Option<String> {
    (read(directory, interface, "forwarding")? == 0).then(|| {
        let file = path(directory, interface, "forwarding");
        format!("{} is 0: packets of others, pods among them, are not passed on; 1 passes them on", file.display())
    })
}

fn read(directory: &str, interface: &str, name: &str) -> Option<u32> {
    std::fs::read_to_string(path(directory, interface, name)).ok()?.trim().parse().ok()
}

fn path(directory: &str, interface: &str, name: &str) -> PathBuf {
    [directory, interface, name].iter().collect()
}
