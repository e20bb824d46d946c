//! The order in which `sort.Sort` of Go before 1.19 leaves elements that tie: a quicksort that takes the elements equal to its pivot
//! apart, with a pass of a shell sort where it is short.

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
        sort.range(from, to, patience, &mut open);
    }
}

struct Sort<'e, T, L> {
    elements: &'e mut [T],
    less: L,
}

impl<T, L: FnMut(&T, &T) -> bool> Sort<'_, T, L> {
    fn less(&mut self, a: usize, b: usize) -> bool {
        match (self.elements.get(a), self.elements.get(b)) {
            (Some(a), Some(b)) => (self.less)(a, b),
            _ => false,
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a < self.elements.len() && b < self.elements.len() {
            self.elements.swap(a, b);
        }
    }

    /// Sorts the elements from `from` up to `to`, but for parts that are left `open`.
    fn range(
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
            let (below, above) = self.split(from, to);
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

    fn heap(&mut self, from: usize, to: usize) {
        let len = to - from;
        for root in (0..len.div_ceil(2)).rev() {
            self.sift(root, len, from);
        }
        for last in (0..len).rev() {
            self.swap(from, from + last);
            self.sift(0, last, from);
        }
    }

    fn sift(&mut self, mut root: usize, len: usize, from: usize) {
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.less(from + child, from + child + 1) {
                child += 1;
            }
            if !self.less(from + root, from + child) {
                return;
            }
            self.swap(from + root, from + child);
            root = child;
        }
    }

    /// Brings the middle one of three to the place `middle`.
    fn median(&mut self, middle: usize, one: usize, other: usize) {
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
    fn split(&mut self, from: usize, to: usize) -> (usize, usize) {
        let len = to - from;
        let middle = from + len / 2;
        if len > MOST_OF_ONE_MEDIAN {
            let step = len / 8;
            self.median(from, from + step, from + 2 * step);
            self.median(middle, middle - step, middle + step);
            self.median(to - 1, to - 1 - step, to - 1 - 2 * step);
        }
        self.median(from, middle, to - 1);
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
