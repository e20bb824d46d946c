//! A squarified treemap (Bruls, Huizing, van Wijk, 2000): rectangles whose areas are as given, and as near to squares as a row by row
//! layout gets them.

/// A rectangle; the picture's own units.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rect {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Rect {
    fn area(&self) -> f64 {
        self.width * self.height
    }

    /// Less `by` on every side, as far as there is room.
    pub(super) fn inset(self, by: f64) -> Self {
        let (x, y) = (by.min(self.width / 2.0), by.min(self.height / 2.0));
        Self { x: self.x + x, y: self.y + y, width: self.width - 2.0 * x, height: self.height - 2.0 * y }
    }
}

/// A rectangle within `room` for each of `sizes`, which must descend; those of no size get an empty one.
pub(super) fn squarified(sizes: &[u64], room: Rect) -> Vec<Rect> {
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let sizes: Vec<f64> = sizes.iter().map(|size| *size as f64).collect();
    let total: f64 = sizes.iter().sum();
    let mut placed = Vec::with_capacity(sizes.len());
    if total <= 0.0 || room.area() <= 0.0 {
        placed.resize(sizes.len(), Rect::default());
        return placed;
    }
    let scale = room.area() / total;
    let areas: Vec<f64> = sizes.iter().map(|size| size * scale).collect();
    let (mut room, mut rest) = (room, areas.as_slice());
    while let Some(largest) = rest.first() {
        if *largest <= 0.0 {
            placed.extend(rest.iter().map(|_| Rect { width: 0.0, height: 0.0, ..room }));
            break;
        }
        let side = room.width.min(room.height);
        let (mut count, mut sum) = (1, *largest);
        while let Some(next) = rest.get(count)
            && worst(*largest, *next, sum + next, side) <= worst(*largest, rest[count - 1], sum, side)
        {
            sum += next;
            count += 1;
        }
        let (row, others) = rest.split_at(count);
        room = place(row, sum, room, &mut placed);
        rest = others;
    }
    placed
}

/// The worst ratio of sides in a row along `side` whose areas go from `largest` to `smallest` and sum up to `sum`.
fn worst(largest: f64, smallest: f64, sum: f64, side: f64) -> f64 {
    if smallest <= 0.0 {
        return f64::INFINITY;
    }
    let (side, sum) = (side * side, sum * sum);
    (side * largest / sum).max(sum / (side * smallest))
}

/// Lays `row` along the shorter side of `room`; gives what is left of the room.
fn place(row: &[f64], sum: f64, room: Rect, placed: &mut Vec<Rect>) -> Rect {
    let upright = room.width >= room.height;
    let side = if upright { room.height } else { room.width };
    let depth = if side > 0.0 { sum / side } else { 0.0 };
    let mut at = 0.0;
    for area in row {
        let length = if depth > 0.0 { area / depth } else { 0.0 };
        placed.push(if upright {
            Rect { x: room.x, y: room.y + at, width: depth, height: length }
        } else {
            Rect { x: room.x + at, y: room.y, width: length, height: depth }
        });
        at += length;
    }
    if upright {
        Rect { x: room.x + depth, width: (room.width - depth).max(0.0), ..room }
    } else {
        Rect { y: room.y + depth, height: (room.height - depth).max(0.0), ..room }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Rect = Rect { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };

    /// The example of the paper: areas 6, 6, 4, 3, 2, 2, 1 in 6 by 4.
    #[test]
    fn the_example_of_the_paper() {
        let rects = squarified(&[6, 6, 4, 3, 2, 2, 1], ROOM);
        let near = |one: f64, other: f64| (one - other).abs() < 1e-9;
        let first = rects[0];
        assert!(near(first.width, 3.0) && near(first.height, 2.0), "{rects:?}");
        let third = rects[2];
        assert!(
            near(third.x, 3.0) && near(third.width, 12.0 / 7.0) && near(third.height, 7.0 / 3.0),
            "{rects:?}"
        );
    }

    #[test]
    fn areas_are_as_given_and_nothing_overlaps() {
        for sizes in [
            vec![1],
            vec![1_000_000, 1],
            vec![7; 50],
            (1..200).rev().map(|n| n * n).collect(),
            vec![5, 5, 0, 0],
        ] {
            let rects = squarified(&sizes, ROOM);
            assert_eq!(rects.len(), sizes.len());
            let total: u64 = sizes.iter().sum();
            for (rect, size) in rects.iter().zip(&sizes) {
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let share = *size as f64 / total as f64;
                assert!((rect.area() / ROOM.area() - share).abs() < 1e-9, "{sizes:?}: {rect:?}");
                assert!(rect.x >= -1e-9 && rect.x + rect.width <= ROOM.width + 1e-9, "{rect:?}");
                assert!(rect.y >= -1e-9 && rect.y + rect.height <= ROOM.height + 1e-9, "{rect:?}");
            }
            for (index, one) in rects.iter().enumerate() {
                for other in &rects[index + 1..] {
                    let wide = (one.x + one.width).min(other.x + other.width) - one.x.max(other.x);
                    let high = (one.y + one.height).min(other.y + other.height) - one.y.max(other.y);
                    assert!(wide <= 1e-9 || high <= 1e-9, "{one:?} and {other:?} of {sizes:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_has_no_area() {
        assert_eq!(squarified(&[], ROOM), []);
        assert_eq!(squarified(&[0, 0], ROOM), [Rect::default(); 2]);
    }
}
