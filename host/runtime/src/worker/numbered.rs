//! Tables whose entries lie side by side and are found by number, without hashing.
//!
//! A number is a place in the table (the lower 32 bits) and the number of entries that were removed from that place
//! before (the upper 32 bits): places are reused, numbers are not. The place that was freed last is used first, so that
//! a table whose entries come and go stays small and in the cache.

/// Entries by number.
#[derive(Debug)]
pub(crate) struct NumberedTable<T> {
    places: Vec<TablePlace<T>>,
    free: Vec<u32>,
    entries: usize,
}

#[derive(Debug)]
struct TablePlace<T> {
    /// Number of entries removed from here.
    removed: u32,
    entry: Option<T>,
}

impl<T> NumberedTable<T> {
    pub(crate) fn new() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            entries: 0,
        }
    }

    /// Adds an entry, and returns its number.
    pub(crate) fn insert(&mut self, entry: T) -> u64 {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(TablePlace::empty());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        let free = &mut self.places[place as usize];
        free.entry = Some(entry);
        self.entries += 1;
        u64::from(free.removed) << PLACE_BITS | u64::from(place)
    }

    /// Adds an entry under a number that another table has issued; an entry in the same place is replaced.
    pub(crate) fn insert_at(&mut self, number: u64, entry: T) {
        let (place, removed) = split(number);
        if place >= self.places.len() {
            self.places.resize_with(place + 1, TablePlace::empty);
        }
        let replaced = self.places[place].entry.replace(entry);
        self.places[place].removed = removed;
        self.entries += usize::from(replaced.is_none());
    }

    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (place, removed) = split(number);
        let place = self.places.get(place).filter(|p| p.removed == removed)?;
        place.entry.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (place, removed) = split(number);
        let place = self
            .places
            .get_mut(place)
            .filter(|p| p.removed == removed)?;
        place.entry.as_mut()
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        let (at, removed) = split(number);
        let place = self.places.get_mut(at).filter(|p| p.removed == removed)?;
        let entry = place.entry.take()?;
        place.removed = removed.wrapping_add(1);
        self.free.extend(u32::try_from(at));
        self.entries -= 1;
        Some(entry)
    }

    /// Removes an entry that was added with [`insert_at`](Self::insert_at).
    pub(crate) fn remove_at(&mut self, number: u64) -> Option<T> {
        let (place, removed) = split(number);
        let place = self
            .places
            .get_mut(place)
            .filter(|p| p.removed == removed)?;
        let entry = place.entry.take()?;
        self.entries -= 1;
        Some(entry)
    }

    /// Removes all entries.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let numbers: Vec<_> = self.numbers().collect();
        numbers
            .into_iter()
            .filter_map(|number| self.remove(number))
            .collect()
    }

    /// Returns `true` if this number was issued to an entry, which may have been removed.
    pub(crate) fn has_issued(&self, number: u64) -> bool {
        let (place, removed) = split(number);
        self.places.get(place).is_some_and(|place| {
            removed < place.removed || removed == place.removed && place.entry.is_some()
        })
    }

    /// Returns the number of entries.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    fn numbers(&self) -> impl Iterator<Item = u64> {
        let places = self.places.iter().zip(0..);
        places
            .filter(|(place, _)| place.entry.is_some())
            .map(|(place, at)| u64::from(place.removed) << PLACE_BITS | at)
    }
}

impl<T> TablePlace<T> {
    fn empty() -> Self {
        Self {
            removed: 0,
            entry: None,
        }
    }
}

/// Splits a number into its place and the count of entries removed from there.
fn split(number: u64) -> (usize, u32) {
    let place = usize::try_from(number & PLACE_MASK).unwrap_or(usize::MAX);
    // A shift by the bits of a place leaves no more than fits.
    let removed = u32::try_from(number >> PLACE_BITS).unwrap_or(u32::MAX);
    (place, removed)
}

const PLACE_BITS: u32 = 32;
const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_numbers_are_not() {
        let mut table = NumberedTable::new();
        let (a, b) = (table.insert('a'), table.insert('b'));
        assert_eq!((a, b), (0, 1));
        assert_eq!(table.remove(a), Some('a'));
        assert_eq!(table.remove(a), None, "once");
        let c = table.insert('c');
        assert_ne!(c, a);
        assert_eq!(table.places.len(), 2);
        assert_eq!((table.get(a), table.get(c)), (None, Some(&'c')));
        assert_eq!(table.get_mut(a), None);
        assert_eq!(table.get_mut(b), Some(&mut 'b'));
        assert_eq!(table.len(), 2);
        assert!(table.has_issued(a) && table.has_issued(b) && table.has_issued(c));
        assert!(!table.has_issued(2) && !table.has_issued(c + (1 << PLACE_BITS)));
        assert_eq!(table.take_all(), ['c', 'b']);
        assert_eq!(table.len(), 0);
        assert!(table.has_issued(b));
    }

    #[test]
    fn another_table_finds_its_entries_by_the_same_numbers() {
        let (mut issues, mut follows) = (NumberedTable::new(), NumberedTable::new());
        for round in 0..3 {
            let numbers: Vec<_> = (0..4).map(|_| issues.insert(())).collect();
            for &number in &numbers {
                follows.insert_at(number, (round, number));
            }
            assert_eq!(follows.len(), 4);
            for &number in &numbers {
                issues.remove(number);
                assert_eq!(follows.get(number), Some(&(round, number)));
                assert_eq!(follows.remove_at(number), Some((round, number)));
                assert_eq!(follows.get_mut(number), None);
            }
        }
        assert_eq!(follows.len(), 0);
        assert_eq!(follows.places.len(), 4);
    }
}
