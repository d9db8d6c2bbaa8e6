use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// One step of a story.
enum Step {
    /// The next free address is this, and is taken.
    Next(Option<Number>),
    /// This very address is asked for.
    Take(Number, bool),
    /// This address is given back.
    Release(Number, bool),
    /// So many are left.
    Available(Number),
}
use Step::{Available, Next, Release, Take};

#[track_caller]
fn check(story: &str, mut allocator: Allocator, steps: &[Step]) {
    for (index, step) in steps.iter().enumerate() {
        let place = format!("{story}, step {index}");
        match *step {
            Next(expected) => {
                let next = allocator.next_free();
                assert_eq!(next, expected, "{place}");
                assert!(next.is_none_or(|address| allocator.take(address)), "{place}");
            }
            Take(address, expected) => assert_eq!(allocator.take(address), expected, "{place}"),
            Release(address, expected) => assert_eq!(allocator.release(address), expected, "{place}"),
            Available(expected) => assert_eq!(allocator.available(), expected, "{place}"),
        }
    }
}

fn plain(range: RangeInclusive<Number>) -> Allocator {
    Allocator::new([range], [], Avoid::Nothing)
}

fn careful(range: RangeInclusive<Number>) -> Allocator {
    Allocator::new([range], [], Avoid::BuggyIpv4)
}

#[test]
fn stories() {
    check(
        "the lowest free address is next, and a freed one at once again",
        plain(10..=12),
        &[Next(Some(10)), Next(Some(11)), Release(10, true), Next(Some(10)), Next(Some(12)), Next(None)],
    );
    check(
        "an address is taken and given back once",
        plain(10..=12),
        &[Take(11, true), Take(11, false), Available(2), Release(11, true), Release(11, false), Available(3)],
    );
    check("what is outside is neither taken nor given back", plain(10..=12), &[Take(13, false), Release(13, false)]);
    check(
        "excluded addresses are stepped over",
        Allocator::new([10..=15], [11..=13], Avoid::Nothing),
        &[Available(3), Next(Some(10)), Next(Some(14)), Take(12, false), Next(Some(15)), Next(None)],
    );
    check(
        "what is listed first goes first, and again as soon as it is given back",
        Allocator::new([20..=21, 10..=11], [], Avoid::Nothing),
        &[
            Next(Some(20)),
            Next(Some(21)),
            Next(Some(10)),
            Release(21, true),
            Next(Some(21)),
            Next(Some(11)),
            Next(None),
        ],
    );
    check(
        "what two list counts for the first",
        Allocator::new([12..=13, 10..=20, 5..=12], [13..=13], Avoid::Nothing),
        &[
            Next(Some(12)),
            Next(Some(10)),
            Take(5, true),
            Next(Some(11)),
            Next(Some(14)),
            Release(12, true),
            Next(Some(12)),
        ],
    );
    check(
        "ranges that overlap count once",
        Allocator::new([10..=15, 12..=20], [], Avoid::Nothing),
        &[Available(11), Take(13, true), Available(10)],
    );
    check(
        "of a /31 at .254 one address can be had",
        careful(0x0a0000fe..=0x0a0000ff),
        &[Available(1), Next(Some(0x0a0000fe)), Next(None)],
    );
    check("a range of avoided addresses alone has none", careful(0xff..=0x100), &[Available(0), Next(None)]);
    check(
        "avoided addresses are stepped over in passing and refused when asked for",
        careful(0xfd..=0x102),
        &[
            Available(4),
            Take(0xff, false),
            Take(0x100, false),
            Next(Some(0xfd)),
            Next(Some(0xfe)),
            Next(Some(0x101)),
            Release(0xff, false),
            Release(0xfe, true),
            Next(Some(0xfe)),
            Next(Some(0x102)),
            Next(None),
        ],
    );
    check(
        "an address taken from the middle leaves no avoided one at an end",
        careful(0x01..=0x1fe),
        &[Take(0x101, true), Take(0xfe, true), Next(Some(0x01)), Available(0x1fe - 2 - 3)],
    );
    check(
        "an IPv6 /64 is one range",
        plain(0x20010db8 << 96..=(0x20010db8 << 96) + u128::from(u64::MAX)),
        &[Available(1 << 64), Next(Some(0x20010db8 << 96)), Available((1 << 64) - 1)],
    );
    check("the whole of IPv6 does not overflow", plain(0..=u128::MAX), &[Available(u128::MAX), Next(Some(0))]);
}

/// The same, with every address looked at.
struct Naive {
    all: BTreeSet<Number>,
    /// Each with the place in the list of the first range that has it.
    free: BTreeSet<(usize, Number)>,
}

proptest! {
    #[test]
    fn agrees_with_a_model_that_looks_at_every_address(
        ranges in prop::collection::vec((0u128..900, 0u128..300), 1..4),
        exclude in prop::collection::vec((0u128..900, 0u128..40), 0..4),
        buggy in any::<bool>(),
        steps in prop::collection::vec((0u8..3, 0u128..1200), 0..400),
    ) {
        let avoid = if buggy { Avoid::BuggyIpv4 } else { Avoid::Nothing };
        let ranges: Vec<_> = ranges.into_iter().map(|(first, size)| first..=first + size).collect();
        let exclude: Vec<_> = exclude.into_iter().map(|(first, size)| first..=first + size).collect();
        let all: BTreeSet<Number> = ranges.iter().cloned().flatten()
            .filter(|address| !exclude.iter().any(|range| range.contains(address)))
            .filter(|address| !(buggy && (address % 256 == 0 || address % 256 == 255)))
            .collect();
        let listed = ranges.clone();
        let placed = |address: Number| (listed.iter().position(|range| range.contains(&address)).unwrap(), address);
        let mut naive = Naive { free: all.iter().copied().map(placed).collect(), all };
        let mut real = Allocator::new(ranges, exclude, avoid);
        prop_assert_eq!(real.total(), naive.all.len() as Number);
        for (kind, address) in steps {
            match kind {
                0 => {
                    prop_assert_eq!(real.next_free(), naive.free.first().map(|(_, address)| *address));
                    if let Some(next) = real.next_free() {
                        prop_assert!(real.take(next));
                        naive.free.remove(&placed(next));
                    }
                }
                1 => {
                    let expected = naive.all.contains(&address) && naive.free.remove(&placed(address));
                    prop_assert_eq!(real.take(address), expected);
                }
                _ => {
                    let expected = naive.all.contains(&address) && naive.free.insert(placed(address));
                    prop_assert_eq!(real.release(address), expected);
                }
            }
            prop_assert_eq!(real.available(), naive.free.len() as Number);
            let is_free = naive.all.contains(&address) && naive.free.contains(&placed(address));
            prop_assert_eq!(real.is_free(address), is_free);
            prop_assert_eq!(real.contains(address), naive.all.contains(&address));
        }
    }
}
