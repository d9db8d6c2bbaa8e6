//! The serial number of the route that a peer was told of each prefix: four octets for each prefix and peer, unless another peer with
//! the same settings was told the same.
//!
//! They stand in pieces, in the order of the prefixes' numbers. When a peer has nothing more to write, the pieces that have changed are
//! compared with those of the last of its group that had nothing more to write, and stand only once where they are the same:
//! in a mesh of nodes, nearly everywhere. Whoever is told something else from then on gets a piece of its own first.

use std::sync::Arc;

use super::NOTHING;
use crate::rib::table::PrefixId;

/// So many prefixes are in a piece: few enough that a single change costs little, enough that pieces themselves cost nothing.
const PREFIXES: usize = 256;

type Piece = [u32; PREFIXES];

#[derive(Debug, Default)]
pub(in crate::rib::relay_out) struct Serials {
    pieces: Vec<Place>,
    /// Those that have become the peer's own since [`Serials::settle`].
    changed: Vec<usize>,
    /// How many are not [`NOTHING`].
    count: usize,
}

#[derive(Debug, Default)]
enum Place {
    /// Nothing was told of any of its prefixes.
    #[default]
    Nothing,
    Own(Box<Piece>),
    Shared(Arc<Piece>),
}

impl Place {
    fn serials(&self) -> Option<&Piece> {
        match self {
            Self::Nothing => None,
            Self::Own(piece) => Some(piece),
            Self::Shared(piece) => Some(piece),
        }
    }
}

/// The pieces of the last peer of a group that had nothing more to write.
#[derive(Debug, Default)]
pub(in crate::rib::relay_out) struct SharedSerials(Vec<Option<Arc<Piece>>>);

impl Serials {
    /// How many prefixes it was told something of.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    #[inline]
    pub(in crate::rib::relay_out) fn get(&self, id: PrefixId) -> u32 {
        let piece = self.pieces.get(id.index() / PREFIXES).and_then(Place::serials);
        piece.map_or(NOTHING, |piece| piece[id.index() % PREFIXES])
    }

    /// Whether there was something.
    #[inline]
    pub(in crate::rib::relay_out) fn clear(&mut self, id: PrefixId) -> bool {
        self.set(id, NOTHING) != NOTHING
    }

    /// Returns what it was before.
    #[inline]
    pub(in crate::rib::relay_out) fn set(&mut self, id: PrefixId, serial: u32) -> u32 {
        let (place, offset) = (id.index() / PREFIXES, id.index() % PREFIXES);
        if !matches!(self.pieces.get(place), Some(Place::Own(_))) {
            if self.get(id) == serial {
                return serial;
            }
            self.make_own(place);
        }
        let Some(Place::Own(piece)) = self.pieces.get_mut(place) else { return NOTHING };
        let before = std::mem::replace(&mut piece[offset], serial);
        self.count = self.count + usize::from(serial != NOTHING) - usize::from(before != NOTHING);
        before
    }

    #[cold]
    fn make_own(&mut self, place: usize) {
        if self.pieces.len() <= place {
            self.pieces.resize_with(place + 1, Place::default);
        }
        let own = self.pieces[place].serials().map_or_else(|| Box::new([NOTHING; PREFIXES]), |piece| Box::new(*piece));
        self.pieces[place] = Place::Own(own);
        self.changed.push(place);
    }

    /// The peer has nothing more to write.
    pub(super) fn settle(&mut self, shared: &mut SharedSerials) {
        let known = &mut shared.0;
        for place in std::mem::take(&mut self.changed) {
            let Place::Own(own) = &self.pieces[place] else { continue };
            if known.len() <= place {
                known.resize_with(place + 1, Option::default);
            }
            self.pieces[place] = match &known[place] {
                _ if own.iter().all(|serial| *serial == NOTHING) => {
                    known[place] = None;
                    Place::Nothing
                }
                Some(same) if **same == **own => Place::Shared(Arc::clone(same)),
                _ => Place::Shared(Arc::clone(known[place].insert(Arc::new(**own)))),
            };
        }
    }

    /// Every prefix of which something was told.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = PrefixId> {
        let piece = |(place, piece): (usize, &Place)| {
            let serials = piece.serials().map_or(&[][..], |piece| piece);
            let told = serials.iter().enumerate().filter(|(_, serial)| **serial != NOTHING);
            // Made from such numbers.
            told.filter_map(|(offset, _)| Some(PrefixId(u32::try_from(place * PREFIXES + offset).ok()?))).collect()
        };
        self.pieces.iter().enumerate().flat_map(move |each| -> Vec<PrefixId> { piece(each) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    #[test]
    fn peers_that_share_pieces_each_have_what_they_were_told() {
        for seed in 0..50 {
            let mut random = SplitMix64::new(seed);
            let mut below = |limit: u64| random.next() % limit;
            let mut shared = SharedSerials::default();
            let mut peers: Vec<(Serials, Vec<u32>)> =
                (0..4).map(|_| (Serials::default(), vec![NOTHING; 3 * PREFIXES])).collect();
            for _ in 0..2_000 {
                let index = below(3 * PREFIXES as u64) as usize;
                let id = PrefixId(index as u32);
                let serial = below(3) as u32;
                // Mostly all are told the same.
                let all = below(4) > 0;
                let one = below(4) as usize;
                for (number, (serials, model)) in peers.iter_mut().enumerate() {
                    if all || number == one {
                        let before = std::mem::replace(&mut model[index], serial);
                        match serial {
                            NOTHING => assert_eq!(serials.clear(id), before != NOTHING, "seed {seed}"),
                            serial => assert_eq!(serials.set(id, serial), before, "seed {seed}"),
                        }
                    }
                    if below(3) == 0 {
                        serials.settle(&mut shared);
                    }
                }
            }
            for (serials, model) in &peers {
                let told: Vec<u32> = (0..model.len()).map(|index| serials.get(PrefixId(index as u32))).collect();
                assert_eq!(told, *model, "seed {seed}");
                assert_eq!(serials.count(), model.iter().filter(|serial| **serial != NOTHING).count());
                assert_eq!(serials.count(), serials.prefixes().count());
            }
        }
    }

    #[test]
    fn what_all_were_told_stands_once_and_nothing_takes_no_room() {
        let mut shared = SharedSerials::default();
        let mut peers: Vec<Serials> = (0..10).map(|_| Serials::default()).collect();
        let ids = || (0..PREFIXES as u32).map(PrefixId);
        for serials in &mut peers {
            ids().for_each(|id| assert_eq!(serials.set(id, 7), NOTHING));
            serials.settle(&mut shared);
        }
        assert_eq!(shared.0[0].as_ref().map(Arc::strong_count), Some(11));
        // Told again what it knows.
        assert_eq!(peers[0].set(PrefixId(0), 7), 7);
        assert_eq!(shared.0[0].as_ref().map(Arc::strong_count), Some(11));
        for serials in &mut peers {
            ids().for_each(|id| assert!(serials.clear(id)));
            serials.settle(&mut shared);
            assert!(matches!(serials.pieces[0], Place::Nothing));
        }
        assert!(shared.0[0].is_none());
    }
}
