//! What has brought other implementations down, each under the number by which it is known.
//!
//! Nearly all of them are one message: those are [`cases`](crate::cases::incidents), sent to other implementations too. In a
//! memory-safe language what was an overrun becomes a panic, an endless loop or a wrong answer, so the right answer is what
//! is asked for.

use std::collections::BTreeSet;

use crate::cases;
use crate::errors::check;
use crate::script::{Script, announce, config, peer_open, raw};

macro_rules! incidents {
    ($($test:ident: $number:literal,)*) => {
        /// The incidents that are one message.
        const NUMBERS: &[&str] = &[$($number),*];

        $(
            #[test]
            fn $test() {
                check(|case| case.name.starts_with(concat!($number, ":")));
            }
        )*
    };
}

incidents! {
    cve_2017_16227: "CVE-2017-16227",
    cve_2018_5381: "CVE-2018-5381",
    cve_2019_16159: "CVE-2019-16159",
    cve_2022_36440: "CVE-2022-36440",
    cve_2022_37032: "CVE-2022-37032",
    cve_2022_40302: "CVE-2022-40302",
    cve_2022_40318: "CVE-2022-40318",
    cve_2022_43681: "CVE-2022-43681",
    cve_2023_38283: "CVE-2023-38283",
    cve_2023_38406: "CVE-2023-38406",
    cve_2023_38802: "CVE-2023-38802",
    cve_2023_41358: "CVE-2023-41358",
    cve_2023_41359: "CVE-2023-41359",
    cve_2023_41360: "CVE-2023-41360",
    cve_2023_46752: "CVE-2023-46752",
    cve_2023_46753: "CVE-2023-46753",
    cve_2023_47234: "CVE-2023-47234",
    cve_2023_47235: "CVE-2023-47235",
    cve_2024_31948: "CVE-2024-31948",
    cve_2024_31949: "CVE-2024-31949",
    cve_2024_44070: "CVE-2024-44070",
    ixp_event_of_october_2025: "IXP event of October 2025",
    cve_2025_43970: "CVE-2025-43970",
    cve_2026_30405: "CVE-2026-30405",
    cve_2026_37461: "CVE-2026-37461",
    cve_2026_37462: "CVE-2026-37462",
    cve_2026_41643: "CVE-2026-41643",
    cve_2026_48685: "CVE-2026-48685",
    cve_2026_48686: "CVE-2026-48686",
    cve_2026_48688: "CVE-2026-48688",
    cve_2026_48691: "CVE-2026-48691",
    cve_2026_49943: "CVE-2026-49943",
    cve_2026_5122: "CVE-2026-5122",
}

/// BIRD 3: the session was closed by a NOTIFICATION while UPDATEs were still unsent.
#[test]
fn cve_2025_59688() {
    for unsent in [0, 1, 2, 3, 500, 5000] {
        let mut script = Script::established(config());
        script.read();
        script.reading = false;
        script.update_routes((0..unsent).map(|n| announce(&format!("10.{}.{}.0/24", n / 256, n % 256))).collect());
        script.send(&raw(3, &[6, 4]));
        assert_eq!(script.connection, None, "{unsent}");
        assert_eq!(script.status().prefixes_sent, 0, "{unsent}");
        // All of it is told again on the next session.
        script.reading = true;
        script.come_back(peer_open());
        assert_eq!(script.status().prefixes_sent, unsent, "{unsent}");
    }
}

#[test]
fn no_incident_is_without_a_test() {
    let named: BTreeSet<String> = cases::incidents::cases()
        .iter()
        .map(|case| case.name.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(named, NUMBERS.iter().map(|number| (*number).to_owned()).collect());
}
