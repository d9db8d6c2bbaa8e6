//! What is in the table: put in, replaced, kept, mended, removed.

use std::process::Command;
use std::time::Duration;

use roadstead_speaker::fib::{Ending, FibOptions, start};

use crate::world::{
    eventually, fib, in_a_namespace, neighbour, of_others, run, set, shell, status_becomes, table, table_becomes,
};

/// Two routers on cables of their own.
fn two_routers() {
    neighbour("ra", &["192.0.2.1/24", "2001:db8:a::1/64"], &["192.0.2.2/24", "2001:db8:a::2/64"]);
    neighbour("rb", &["198.51.100.1/24", "2001:db8:b::1/64"], &["198.51.100.2/24", "2001:db8:b::2/64"]);
}

#[test]
fn both_families_with_one_and_several_next_hops() {
    in_a_namespace("routes::both_families_with_one_and_several_next_hops", || {
        two_routers();
        let main = || run("ip route show table main").replace(" linkdown", "");
        let before = main();
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        set(&fib, "10.2.0.0/16", &["192.0.2.2", "198.51.100.2"]);
        table_becomes("-4", &["10.2.0.0/16", "nexthop via 192.0.2.2 dev ra", "nexthop via 198.51.100.2 dev rb"]);
        // IPv4 over IPv6, RFC 8950.
        set(&fib, "10.2.0.0/16", &["2001:db8:a::2", "198.51.100.2"]);
        table_becomes(
            "-4",
            &["10.2.0.0/16", "nexthop via 198.51.100.2 dev rb", "nexthop via inet6 2001:db8:a::2 dev ra"],
        );
        set(&fib, "10.2.0.0/16", &["2001:db8:a::2"]);
        table_becomes("-4", &["10.2.0.0/16 via inet6 2001:db8:a::2 dev ra"]);
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2"]);
        table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:a::2 dev ra"]);
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2", "2001:db8:b::2"]);
        let both = ["2001:db8:2::/48", "nexthop via 2001:db8:a::2 dev ra", "nexthop via 2001:db8:b::2 dev rb"];
        table_becomes("-6", &both);
        set(&fib, "2001:db8:2::/48", &["2001:db8:b::2"]);
        table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:b::2 dev rb"]);
        assert!(run("ip route get 10.2.3.4").contains("table 179"), "{}", run("ip route get 10.2.3.4"));
        assert!(run("ip -6 route get 2001:db8:2::1").contains("table 179"));
        status_becomes(&fib, "two prefixes", |status| status.installed == 2 && status.missing_total == 0);

        set(&fib, "2001:db8:2::/48", &[]);
        set(&fib, "10.2.0.0/16", &[]);
        table_becomes("-4", &[]);
        table_becomes("-6", &[]);
        assert_eq!(main(), before);
        assert!(fib.close(Ending::Keep));
    });
}

#[test]
fn networks_and_routes_of_others_win() {
    in_a_namespace("routes::networks_and_routes_of_others_win", || {
        two_routers();
        run("ip route add 10.2.3.0/24 via 198.51.100.2");
        run("ip route add 10.9.0.0/16 via 198.51.100.2");
        let main = || run("ip route show table main").replace(" linkdown", "");
        let before = main();
        let fib = fib();
        // Wider than a network of ours, than somebody's route, and the same as somebody's.
        for prefix in ["192.0.0.0/8", "10.2.0.0/16", "10.9.0.0/16", "0.0.0.0/0"] {
            set(&fib, prefix, &["192.0.2.2"]);
        }
        table_becomes(
            "-4",
            &[
                "10.2.0.0/16 via 192.0.2.2 dev ra",
                "throw 10.2.3.0/24",
                "192.0.0.0/8 via 192.0.2.2 dev ra",
                "throw 192.0.2.0/24",
            ],
        );
        assert!(run("ip route get 10.2.3.4").contains("dev rb"));
        assert!(run("ip route get 10.2.4.4").contains("dev ra"));
        assert!(run("ip route get 192.0.2.2").starts_with("192.0.2.2 dev ra"), "{}", run("ip route get 192.0.2.2"));
        status_becomes(&fib, "reasons", |status| {
            let reason = |prefix: &str| status.missing.get(&prefix.parse().unwrap()).map(|missing| missing.0.as_str());
            reason("10.9.0.0/16") == Some("the main table has a route for it already, of protocol boot")
                && reason("0.0.0.0/0") == Some("a default route is never put in")
                && status.missing_total == 2
        });
        assert_eq!(main(), before);

        // One that comes later wins as well, and ours is back when it goes.
        run("ip route add 10.2.8.0/24 via 198.51.100.2");
        run("ip route del 10.2.3.0/24");
        run("ip route del 10.9.0.0/16");
        table_becomes(
            "-4",
            &[
                "10.2.0.0/16 via 192.0.2.2 dev ra",
                "throw 10.2.8.0/24",
                "10.9.0.0/16 via 192.0.2.2 dev ra",
                "192.0.0.0/8 via 192.0.2.2 dev ra",
                "throw 192.0.2.0/24",
            ],
        );
        let connected: Vec<String> =
            fib.status().connected.iter().map(|it| format!("{} {}", it.network, it.interface)).collect();
        assert_eq!(connected, ["192.0.2.0/24 ra", "198.51.100.0/24 rb", "2001:db8:a::/64 ra", "2001:db8:b::/64 rb"]);
        // A prefix that goes leaves nothing of what kept it off.
        for prefix in ["192.0.0.0/8", "10.2.0.0/16", "10.9.0.0/16"] {
            set(&fib, prefix, &[]);
        }
        table_becomes("-4", &[]);
    });
}

#[test]
fn what_others_take_away_comes_back() {
    in_a_namespace("routes::what_others_take_away_comes_back", || {
        two_routers();
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2"]);
        let is_whole = || {
            table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
            table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:a::2 dev ra"]);
            for family in ["-4", "-6"] {
                let ours =
                    || run(&format!("ip {family} rule show")).lines().filter(|line| line.contains("179")).count();
                eventually(ours, 1_usize);
            }
        };
        is_whole();
        for damage in [
            "ip route del 10.2.0.0/16 table 179",
            "ip -6 route flush table 179",
            "ip route replace 10.2.0.0/16 via 198.51.100.2 table 179 proto 179",
            "ip route replace blackhole 10.2.0.0/16 table 179 proto 179",
            "ip route add 10.3.0.0/16 via 198.51.100.2 table 179 proto 179",
            "ip rule del priority 32179",
            "ip -6 rule del priority 32179",
            "ip address flush dev rb",
        ] {
            run(damage);
            is_whole();
        }
        run("ip route add 10.3.0.0/16 via 192.0.2.2 table 179 proto static");
        status_becomes(&fib, "problem", |status| {
            status.problems.iter().any(|problem| problem.contains("10.3.0.0/16 of protocol static"))
        });
        assert!(table("-4").contains(&"10.3.0.0/16 via 192.0.2.2 dev ra proto static".to_owned()), "{:?}", table("-4"));
    });
}

#[test]
fn more_news_than_fit_are_made_up_for() {
    in_a_namespace("routes::more_news_than_fit_are_made_up_for", || {
        two_routers();
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra"]);
        // While this process stands still, others make more news than its socket's buffer holds, and our route goes last.
        shell(&format!(
            "trap 'kill -CONT {process}' EXIT
             kill -STOP {process}
             seq 0 39999 | awk '{{ printf \"route add 100.64.%d.%d/32 dev rb table 99\\n\", $1 / 256, $1 % 256 }}' | ip -batch -
             ip route del 10.2.0.0/16 table 179
             ip rule del priority 32179
             ip route add 10.2.3.0/24 via 198.51.100.2",
            process = std::process::id()
        ));
        table_becomes("-4", &["10.2.0.0/16 via 192.0.2.2 dev ra", "throw 10.2.3.0/24"]);
        eventually(|| run("ip rule show").contains("lookup 179"), true);
        let dropped = || -> u64 {
            let sockets = std::fs::read_to_string("/proc/net/netlink").expect("a list of sockets");
            let ours = std::process::id().to_string();
            let mut drops = 0;
            for line in sockets.lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words[2] == ours || words[3] != "00000000" {
                    drops += words[8].parse::<u64>().expect("a number");
                }
            }
            drops
        };
        assert!(
            dropped() > 0,
            "nothing was lost, so nothing was shown: {}",
            std::fs::read_to_string("/proc/net/netlink").unwrap()
        );
    });
}

#[test]
fn an_earlier_run_is_continued() {
    in_a_namespace("routes::an_earlier_run_is_continued", || {
        two_routers();
        let first = fib();
        for prefix in ["10.2.0.0/16", "10.3.0.0/16", "192.0.0.0/8"] {
            set(&first, prefix, &["192.0.2.2", "198.51.100.2"]);
        }
        set(&first, "2001:db8:2::/48", &["2001:db8:a::2", "2001:db8:b::2"]);
        status_becomes(&first, "four", |status| status.installed == 4);
        // A connected network of IPv6 may come a moment after the cable.
        let both = ["2001:db8:2::/48", "nexthop via 2001:db8:a::2 dev ra", "nexthop via 2001:db8:b::2 dev rb"];
        table_becomes("-6", &both);
        eventually(|| table("-4").len(), 10_usize);
        assert!(first.close(Ending::Keep));
        let (ipv4, ipv6) = (table("-4"), table("-6"));

        let second = fib();
        status_becomes(&second, "four of an earlier run", |status| status.adopted == 4 && status.installed == 4);
        set(&second, "10.2.0.0/16", &["192.0.2.2", "198.51.100.2"]);
        set(&second, "192.0.0.0/8", &["192.0.2.2", "198.51.100.2"]);
        set(&second, "2001:db8:2::/48", &["2001:db8:a::2", "2001:db8:b::2"]);
        status_becomes(&second, "one of an earlier run", |status| status.adopted == 1 && status.installed == 4);
        assert_eq!((table("-4"), table("-6")), (ipv4, ipv6));
        second.settle();
        status_becomes(&second, "settled", |status| status.adopted == 0 && status.installed == 3);
        assert!(!table("-4").iter().any(|line| line.contains("10.3")), "{:?}", table("-4"));
        assert!(second.close(Ending::Keep));
        assert!(table("-4").iter().any(|line| line.contains("10.2")), "{:?}", table("-4"));

        // Who never says what is wanted loses it after a while.
        let third = start(FibOptions { keep: Duration::from_millis(50) }).expect("it starts");
        table_becomes("-4", &[]);
        table_becomes("-6", &[]);
        assert!(third.close(Ending::Remove));
    });
}

#[test]
fn a_clean_end_leaves_nothing_of_ours() {
    in_a_namespace("routes::a_clean_end_leaves_nothing_of_ours", || {
        two_routers();
        run("ip route add 10.2.3.0/24 via 198.51.100.2");
        run("ip route add unreachable 10.1.0.0/24 proto 179 metric 1073741824");
        let before = of_others();
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2"]);
        let pods = ["10.1.0.0/16".parse().unwrap()].into();
        fib.set_unmasqueraded(pods, ["10.2.0.0/16".parse().unwrap()].into());
        eventually(|| run("nft list tables").contains("roadstead"), true);
        table_becomes("-6", &["2001:db8:2::/48 via 2001:db8:a::2 dev ra"]);
        assert!(fib.close(Ending::Remove));
        assert_eq!(of_others(), before);
        assert_eq!((table("-4"), table("-6")), (Vec::new(), Vec::new()));
    });
}

#[test]
fn what_is_wrong_is_said() {
    in_a_namespace("routes::what_is_wrong_is_said", || {
        two_routers();
        shell("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.ra.rp_filter=1 net.ipv4.conf.ra.forwarding=0");
        shell("sysctl -qw net.ipv6.conf.all.forwarding=1");
        let fib = fib();
        set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
        let has = |words: &'static str| {
            status_becomes(&fib, words, |status| status.problems.iter().any(|problem| problem.contains(words)));
        };
        has("/proc/sys/net/ipv4/conf/ra/rp_filter is 1 (strict)");
        has("/proc/sys/net/ipv4/conf/ra/forwarding is 0");
        run("sysctl -qw net.ipv4.conf.ra.rp_filter=2");
        run("sysctl -qw net.ipv4.conf.ra.forwarding=1");
        status_becomes(&fib, "quiet", |status| status.problems.is_empty());
        run("sysctl -qw net.ipv4.conf.ra.rp_filter=0");
        run("sysctl -qw net.ipv4.conf.all.rp_filter=1");
        has("/proc/sys/net/ipv4/conf/all/rp_filter is 1 (strict)");
        run("sysctl -qw net.ipv6.conf.all.forwarding=0");
        set(&fib, "2001:db8:2::/48", &["2001:db8:a::2"]);
        has("/proc/sys/net/ipv6/conf/all/forwarding is 0");
    });
}

#[test]
fn without_the_right_to_it() {
    let name = "routes::without_the_right_to_it";
    if std::env::var_os("ROADSTEAD_FIB_WITHOUT").is_none() {
        return in_a_namespace(name, || {
            two_routers();
            // A user of nothing, in a namespace that is not that user's.
            again_without(name);
        });
    }
    let fib = fib();
    set(&fib, "10.2.0.0/16", &["192.0.2.2"]);
    fib.set_unmasqueraded(["10.1.0.0/16".parse().unwrap()].into(), ["10.2.0.0/16".parse().unwrap()].into());
    status_becomes(&fib, "refusals", |status| {
        let takes = status.problems.iter().filter(|problem| problem.contains("that takes CAP_NET_ADMIN")).count();
        takes == 2 && status.missing_total == 1 && status.installed == 0
    });
    assert!(fib.close(Ending::Remove));
}

fn again_without(name: &str) {
    // The only place where it is set, and no other thread of this process reads it.
    let this = std::env::current_exe().expect("this program lies somewhere");
    let mut command = Command::new("unshare");
    command.arg("--user").arg(this).args(["--exact", name, "--nocapture"]).env("ROADSTEAD_FIB_WITHOUT", "1");
    let output = command.output().expect("unshare can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
