//! The order in which Go's `sort.Sort` leaves elements that tie.
//!
//! A server sorts the answer to a range request with it, and it is not stable: to print what a server would print, the same
//! comparisons must lead to the same exchanges. This is the pattern-defeating quicksort that Go has since 1.19; its source
//! (`sort/zsortinterface.go`) is where the numbers here come from. How a bad choice of pivots is shaken up is as in Go 1.21 and
//! later: with the older numbers, or the quicksort before 1.19, many elements that tie may come out in another order.
//!
//! Whatever `less` says, also if it contradicts itself, every index is in bounds and the sort ends.

mod older;

pub use older::sort_before_1_19;

/// Ranges up to this length are sorted by insertion.
const MOST_INSERTED: usize = 12;
/// From this length on the pivot is a median of medians.
const LEAST_NINTHER: usize = 50;
/// So many exchanges mean that all samples were in descending order.
const ALL_EXCHANGED: u32 = 12;
/// So many pairs are exchanged in the hope that a range is nearly in order.
const MOST_STEPS: u32 = 5;
/// Below this length there is no such hope.
const LEAST_SHIFTED: usize = 50;

/// Sorts as Go's `sort.Sort` does a value of which `less` tells whether one element is to stand before another.
pub fn sort<T>(elements: &mut [T], less: impl FnMut(&T, &T) -> bool) {
    let len = elements.len();
    let mut sort = Sort { elements, less };
    // The bits of the length: so many bad pivots are borne with.
    let patience = usize::BITS - len.leading_zeros();
    let mut open = vec![(0, len, patience)];
    while let Some((from, to, patience)) = open.pop() {
        sort.range(from, to, patience, &mut open);
    }
}

struct Sort<'e, T, L> {
    elements: &'e mut [T],
    less: L,
}

/// What a choice of the pivot says of the range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hint {
    Unknown,
    Ascending,
    Descending,
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
        let (mut balanced, mut partitioned) = (true, true);
        loop {
            let len = to - from;
            if len <= MOST_INSERTED {
                return self.insert(from, to);
            }
            if patience == 0 {
                return self.heap(from, to);
            }
            if !balanced {
                self.shake(from, to);
                patience -= 1;
            }
            let (mut pivot, mut hint) = self.pivot(from, to);
            if hint == Hint::Descending {
                if let Some(range) = self.elements.get_mut(from..to) {
                    range.reverse();
                }
                pivot = (to - 1) - (pivot - from);
                hint = Hint::Ascending;
            }
            if balanced && partitioned && hint == Hint::Ascending && self.nearly_sorted(from, to) {
                return;
            }
            // What stands before the range is a pivot, and nothing in the range is less.
            if from > 0 && !self.less(from - 1, pivot) {
                from = self.split_equal(from, to, pivot);
                continue;
            }
            let (middle, was_partitioned) = self.split(from, to, pivot);
            partitioned = was_partitioned;
            let (left, right) = (middle - from, to - middle);
            balanced = left.min(right) >= len / 8;
            if left < right {
                open.push((from, middle, patience));
                from = middle + 1;
            } else {
                open.push((middle + 1, to, patience));
                to = middle;
            }
        }
    }

    fn insert(&mut self, from: usize, to: usize) {
        for end in from + 1..to {
            self.sink(end, from + 1);
        }
    }

    /// Moves the element at `at` down to where it belongs, at most to the place before `least`.
    fn sink(&mut self, at: usize, least: usize) {
        for place in (least..=at).rev() {
            if !self.less(place, place - 1) {
                return;
            }
            self.swap(place, place - 1);
        }
    }

    fn heap(&mut self, from: usize, to: usize) {
        let len = to - from;
        for root in (0..=(len - 1) / 2).rev() {
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

    /// Exchanges three elements in the middle with others, which a fixed sequence of numbers names.
    fn shake(&mut self, from: usize, to: usize) {
        let len = to - from;
        let mut number = len as u64;
        let mask = (1_u64 << (u64::BITS - number.leading_zeros())) - 1;
        let middle = from + len / 4 * 2;
        for place in middle - 1..=middle + 1 {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            // The mask is less than twice the length.
            let other = usize::try_from(number & mask).unwrap_or_default();
            self.swap(place, from + if other >= len { other - len } else { other });
        }
    }

    fn pivot(&mut self, from: usize, to: usize) -> (usize, Hint) {
        let quarter = (to - from) / 4;
        let mut samples = [from + quarter, from + quarter * 2, from + quarter * 3];
        let mut exchanged = 0;
        if to - from >= LEAST_NINTHER {
            for sample in &mut samples {
                *sample = self.median([*sample - 1, *sample, *sample + 1], &mut exchanged);
            }
        }
        // Ranges this short that they have no samples are sorted by insertion.
        let pivot = self.median(samples, &mut exchanged);
        let hint = match exchanged {
            0 => Hint::Ascending,
            ALL_EXCHANGED => Hint::Descending,
            _ => Hint::Unknown,
        };
        (pivot, hint)
    }

    /// Which of the three places holds the median.
    fn median(&mut self, [mut a, mut b, mut c]: [usize; 3], exchanged: &mut u32) -> usize {
        let mut order = |a: &mut usize, b: &mut usize| {
            if self.less(*b, *a) {
                *exchanged += 1;
                std::mem::swap(a, b);
            }
        };
        order(&mut a, &mut b);
        order(&mut b, &mut c);
        order(&mut a, &mut b);
        b
    }

    /// Whether a few exchanges put the range in order.
    fn nearly_sorted(&mut self, from: usize, to: usize) -> bool {
        let mut at = from + 1;
        for _ in 0..MOST_STEPS {
            while at < to && !self.less(at, at - 1) {
                at += 1;
            }
            if at == to {
                return true;
            }
            if to - from < LEAST_SHIFTED {
                return false;
            }
            self.swap(at, at - 1);
            if at - from >= 2 {
                self.sink(at - 1, 1);
            }
            if to - at >= 2 {
                for place in at + 1..to {
                    if !self.less(place, place - 1) {
                        break;
                    }
                    self.swap(place, place - 1);
                }
            }
        }
        false
    }

    /// Puts what is less than the element at `pivot` before it and the rest behind it; gives its place, and whether that was so
    /// already.
    fn split(&mut self, from: usize, to: usize, pivot: usize) -> (usize, bool) {
        self.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        let mut already = true;
        loop {
            while low <= high && self.less(low, from) {
                low += 1;
            }
            while low <= high && !self.less(high, from) {
                high -= 1;
            }
            if low > high {
                break;
            }
            already = false;
            self.swap(low, high);
            low += 1;
            high -= 1;
        }
        self.swap(high, from);
        (high, already)
    }

    /// Puts what is equal to the element at `pivot`, than which nothing is less, to the front; gives where the rest begins.
    fn split_equal(&mut self, from: usize, to: usize, pivot: usize) -> usize {
        self.swap(from, pivot);
        let (mut low, mut high) = (from + 1, to - 1);
        loop {
            while low <= high && !self.less(from, low) {
                low += 1;
            }
            while low <= high && self.less(from, high) {
                high -= 1;
            }
            if low > high {
                return low;
            }
            self.swap(low, high);
            low += 1;
            high -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_given_comes_out_in_order(numbers in prop::collection::vec(0..40_u8, 0..400)) {
            let mut sorted: Vec<(u8, usize)> = numbers.iter().copied().zip(0..).collect();
            sort(&mut sorted, |a, b| a.0 < b.0);
            let mut expected = numbers.clone();
            expected.sort_unstable();
            prop_assert!(sorted.iter().map(|(number, _)| *number).eq(expected));
            sorted.sort_by_key(|(_, place)| *place);
            prop_assert!(sorted.into_iter().map(|(number, _)| number).eq(numbers));
        }

        #[test]
        fn an_order_that_is_none_ends_all_the_same(numbers: Vec<u16>, mut answers: u64) {
            let mut sorted = numbers.clone();
            sort(&mut sorted, |_, _| {
                answers = answers.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                answers & 1 == 0
            });
            sorted.sort_unstable();
            let mut expected = numbers;
            expected.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn patterns_end_in_order() {
        let len = 3000_u32;
        let organ_pipe = |at: u32| at.min(len - at);
        let saw = |at: u32| at % 37;
        let descending = |at: u32| len - at;
        let nearly = |at: u32| if at.is_multiple_of(500) { 0 } else { at };
        let patterns: [&dyn Fn(u32) -> u32; 4] = [&organ_pipe, &saw, &descending, &nearly];
        for pattern in patterns {
            let mut sorted: Vec<u32> = (0..len).map(pattern).collect();
            sort(&mut sorted, |a, b| a < b);
            assert!(sorted.is_sorted());
        }
    }
}
