//! A set of prefixes that is taken from as from a queue, round by round in the order of their numbers.
//!
//! A bit for each prefix and a bit for each sixty-four of them: a first dump of a million prefixes waits in 130 kB, and the next one is
//! found by looking at a few hundred words at most. Nothing waits for longer than a round.

use crate::rib::table::PrefixId;

#[derive(Debug, Default)]
pub(super) struct Waiting {
    words: Vec<u64>,
    /// Which of `words` are not zero.
    summary: Vec<u64>,
    count: usize,
    /// Where the round goes on.
    next: usize,
}

impl Waiting {
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it was not there.
    #[inline]
    pub(super) fn insert(&mut self, id: PrefixId) -> bool {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        if self.words.len() <= word {
            self.grow(word);
        }
        let place = &mut self.words[word];
        let before = *place;
        if before & bit != 0 {
            return false;
        }
        *place = before | bit;
        if before == 0 {
            self.summary[word / 64] |= 1 << (word % 64);
        }
        self.count += 1;
        true
    }

    #[inline]
    pub(super) fn contains(&self, id: PrefixId) -> bool {
        self.words.get(id.index() / 64).is_some_and(|word| word & (1 << (id.index() % 64)) != 0)
    }

    /// Whether it was there. The round goes on where it was.
    #[inline]
    pub(super) fn remove(&mut self, id: PrefixId) -> bool {
        let (word, bit) = (id.index() / 64, 1 << (id.index() % 64));
        let Some(place) = self.words.get_mut(word).filter(|place| **place & bit != 0) else { return false };
        *place &= !bit;
        if *place == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.count -= 1;
        true
    }

    /// Whole words of the summary at a time.
    #[cold]
    fn grow(&mut self, word: usize) {
        self.summary.resize(word / 64 + 1, 0);
        self.words.resize(self.summary.len() * 64, 0);
    }

    /// The next of the round; it waits no longer.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<PrefixId> {
        // Mostly one is followed by another.
        let mut word = self.next / 64;
        let mut here = self.words.get(word).map_or(0, |bits| bits & (u64::MAX << (self.next % 64)));
        if here == 0 {
            word = self.word_from(word + 1).or_else(|| self.word_from(0))?;
            here = self.words[word];
        }
        let bit = here.trailing_zeros();
        let rest = self.words[word] & !(1 << bit);
        self.words[word] = rest;
        if rest == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.count -= 1;
        let index = word * 64 + bit as usize;
        self.next = index + 1;
        // It was made from such a number.
        Some(PrefixId(index as u32))
    }

    /// It waits again, and is the next.
    pub(super) fn put_back(&mut self, id: PrefixId) {
        self.insert(id);
        self.next = id.index();
    }

    /// The first word at this place or behind it in which something waits.
    fn word_from(&self, first: usize) -> Option<usize> {
        let mut block = first / 64;
        let mut words = self.summary.get(block)? & (u64::MAX << (first % 64));
        while words == 0 {
            block += 1;
            words = *self.summary.get(block)?;
        }
        Some(block * 64 + words.trailing_zeros() as usize)
    }
}

impl Iterator for Waiting {
    type Item = PrefixId;

    fn next(&mut self) -> Option<PrefixId> {
        self.pop()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn every_prefix_is_taken_once_and_in_rounds() {
        for seed in 0..200 {
            let mut random = SplitMix64::new(seed);
            let (mut waiting, mut model) = (Waiting::default(), BTreeSet::new());
            let mut last = None;
            for _ in 0..400 {
                let id = PrefixId((random.next() % 20_000) as u32);
                match random.next() % 4 {
                    0 => assert_eq!(waiting.insert(id), model.insert(id), "seed {seed}"),
                    3 => {
                        assert_eq!(waiting.contains(id), model.contains(&id), "seed {seed}");
                        assert_eq!(waiting.remove(id), model.remove(&id), "seed {seed}");
                    }
                    1 => {
                        let next = model
                            .iter()
                            .find(|id| last.is_none_or(|last| **id > last))
                            .or_else(|| model.first())
                            .copied();
                        assert_eq!(waiting.pop(), next, "seed {seed}");
                        if let Some(next) = next {
                            model.remove(&next);
                            last = Some(next);
                        }
                    }
                    _ => {
                        if let Some(next) = waiting.pop() {
                            waiting.put_back(next);
                            assert_eq!(waiting.pop(), Some(next), "seed {seed}");
                            model.remove(&next);
                            last = Some(next);
                        }
                    }
                }
                assert_eq!(waiting.is_empty(), model.is_empty());
            }
            let rest: BTreeSet<PrefixId> = waiting.collect();
            assert_eq!(rest, model, "seed {seed}");
        }
    }
}
