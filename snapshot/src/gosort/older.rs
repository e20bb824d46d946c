//! The order in which `sort.Sort` of Go before 1.19 leaves elements that tie: a quicksort that takes the elements equal to its pivot
//! apart, with a pass of a shell sort where it is short.

use super::Sort;

/// Ranges up to this length are not split.
const MOST_UNSPLIT: usize = 12;
/// The gap of the pass before a short range is sorted by insertion.
const GAP: usize = 6;
/// Ranges longer than this have a median of medians for pivot.
const MOST_OF_ONE_MEDIAN: usize = 40;
/// So few elements above the pivot speak for many that equal it.
const FEW_ABOVE: usize = 5;

/// Sorts as `sort.Sort` of Go before 1.19 does.
pub fn sort_before_1_19<T>(elements: &mut [T], less: impl FnMut(&T, &T) -> bool) {
    let len = elements.len();
    let mut sort = Sort { elements, less };
    let patience = (usize::BITS - len.leading_zeros()) * 2;
    let mut open = vec![(0, len, patience)];
    while let Some((from, to, patience)) = open.pop() {
        sort.older_range(from, to, patience, &mut open);
    }
}

impl<T, L: FnMut(&T, &T) -> bool> Sort<'_, T, L> {
    fn older_range(
        &mut self,
        mut from: usize,
        mut to: usize,
        mut patience: u32,
        open: &mut Vec<(usize, usize, u32)>,
    ) {
        while to.saturating_sub(from) > MOST_UNSPLIT {
            if patience == 0 {
                return self.heap(from, to);
            }
            patience -= 1;
            let (below, above) = self.older_split(from, to);
            if below - from < to - above {
                open.push((from, below, patience));
                from = above;
            } else {
                open.push((above, to, patience));
                to = below;
            }
        }
        for at in from + GAP..to {
            if self.less(at, at - GAP) {
                self.swap(at, at - GAP);
            }
        }
        for end in from + 1..to {
            let mut at = end;
            while at > from && self.less(at, at - 1) {
                self.swap(at, at - 1);
                at -= 1;
            }
        }
    }

    /// Brings the middle one of three to the place `middle`.
    fn older_median(&mut self, middle: usize, one: usize, other: usize) {
        if self.less(middle, one) {
            self.swap(middle, one);
        }
        if self.less(other, middle) {
            self.swap(other, middle);
            if self.less(middle, one) {
                self.swap(middle, one);
            }
        }
    }

    /// Splits the range at a pivot: the ends of what is less, and of what equals it.
    fn older_split(&mut self, from: usize, to: usize) -> (usize, usize) {
        let len = to - from;
        let middle = from + len / 2;
        if len > MOST_OF_ONE_MEDIAN {
            let step = len / 8;
            self.older_median(from, from + step, from + 2 * step);
            self.older_median(middle, middle - step, middle + step);
            self.older_median(to - 1, to - 1 - step, to - 1 - 2 * step);
        }
        self.older_median(from, middle, to - 1);
        let pivot = from;
        let (mut equal, mut above) = (from + 1, to - 1);
        while equal < above && self.less(equal, pivot) {
            equal += 1;
        }
        let mut open = equal;
        loop {
            while open < above && !self.less(pivot, open) {
                open += 1;
            }
            while open < above && self.less(pivot, above - 1) {
                above -= 1;
            }
            if open >= above {
                break;
            }
            self.swap(open, above - 1);
            open += 1;
            above -= 1;
        }
        if self.has_many_equal(from, to, middle, &mut open, &mut above) {
            loop {
                while equal < open && !self.less(open - 1, pivot) {
                    open -= 1;
                }
                while equal < open && self.less(equal, pivot) {
                    equal += 1;
                }
                if equal >= open {
                    break;
                }
                self.swap(equal, open - 1);
                equal += 1;
                open -= 1;
            }
        }
        self.swap(pivot, open - 1);
        (open - 1, above)
    }

    /// Whether so many elements seem to equal the pivot that they are to be taken apart.
    fn has_many_equal(
        &mut self,
        from: usize,
        to: usize,
        middle: usize,
        open: &mut usize,
        above: &mut usize,
    ) -> bool {
        let over = to - *above;
        if over < FEW_ABOVE || over >= (to - from) / 4 {
            return over < FEW_ABOVE;
        }
        let mut equals = 0;
        if !self.less(from, to - 1) {
            self.swap(*above, to - 1);
            *above += 1;
            equals += 1;
        }
        if !self.less(*open - 1, from) {
            *open -= 1;
            equals += 1;
        }
        if !self.less(middle, from) {
            self.swap(middle, *open - 1);
            *open -= 1;
            equals += 1;
        }
        equals > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_given_comes_out_in_order(numbers in prop::collection::vec(0..40_u8, 0..400)) {
            let mut sorted = numbers.clone();
            sort_before_1_19(&mut sorted, |a, b| a < b);
            let mut expected = numbers;
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }

        #[test]
        fn an_order_that_is_none_ends_all_the_same(numbers: Vec<u16>, mut answers: u64) {
            let mut sorted = numbers.clone();
            sort_before_1_19(&mut sorted, |_, _| {
                answers = answers.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                answers & 0x100 != 0
            });
            sorted.sort_unstable();
            let mut expected = numbers;
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }
    }

    /// Seven that tie: the pass over a gap of six takes the first behind all others when a lesser one comes last.
    #[test]
    fn a_lesser_one_at_the_end_moves_one_that_ties() {
        let mut pairs = vec![(1, 'a'), (1, 'b'), (1, 'c'), (1, 'd'), (1, 'e'), (1, 'f'), (0, 'g')];
        sort_before_1_19(&mut pairs, |a, b| a.0 < b.0);
        let order: String = pairs.iter().map(|pair| pair.1).collect();
        assert_eq!(order, "gbcdefa");
    }
}
