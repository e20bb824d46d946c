//! A cursor: forward, backward and seek over one bucket's keys.

use crate::bucket::Bucket;
use crate::fault::{Fault, FaultKind, readable};
use crate::page::{MAX_DEPTH, Node, NodeKind};
use crate::source::Source;

/// One key of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'c> {
    /// The key.
    pub key: &'c [u8],
    /// The value; of a bucket, its header and inline page.
    pub value: &'c [u8],
    /// True when the value is a bucket.
    pub is_bucket: bool,
}

/// A position in a bucket.
///
/// Every move ends: the keys handed out by [`Cursor::next`] strictly ascend and those of [`Cursor::prev`] strictly
/// descend, or the move is a [`Fault`]; and no move goes deeper than [`MAX_DEPTH`]. After a fault the cursor has no
/// position until it is placed anew.
#[derive(Debug)]
pub struct Cursor<'d, S> {
    bucket: Bucket<'d, S>,
    stack: Vec<(Node<'d>, u16)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

impl Way {
    /// The element after `index` this way, of `count`.
    fn neighbour(self, index: u16, count: u16) -> Option<u16> {
        match self {
            Self::Forward => index.checked_add(1).filter(|next| *next < count),
            Self::Backward => index.checked_sub(1),
        }
    }
}

impl<'d, S: Source> Cursor<'d, S> {
    pub(crate) fn new(bucket: Bucket<'d, S>) -> Self {
        Self { bucket, stack: Vec::new() }
    }

    /// The key at the cursor.
    #[must_use]
    pub fn item(&self) -> Option<Item<'_>> {
        let (node, index) = self.stack.last()?;
        (node.kind() == NodeKind::Leaf && *index < node.count()).then(|| Item {
            key: node.key(*index),
            value: node.value(*index),
            is_bucket: node.is_bucket(*index),
        })
    }

    /// The bucket at the cursor; `None` when the item there is none.
    ///
    /// # Errors
    /// When the bucket's header or inline page is damaged.
    pub fn bucket(&self) -> Result<Option<Bucket<'d, S>>, Fault> {
        match self.stack.last() {
            Some((node, index)) if node.is_bucket(*index) => {
                Bucket::from_element(self.bucket.db(), node, *index).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Goes to the first key.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn first(&mut self) -> Result<Option<Item<'_>>, Fault> {
        self.place(|_| 0, Way::Forward)
    }

    /// Goes to the last key.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn last(&mut self) -> Result<Option<Item<'_>>, Fault> {
        self.place(|node| node.count().saturating_sub(1), Way::Backward)
    }

    /// Goes to `key`, or to the first key after it.
    ///
    /// # Errors
    /// When a page on the way is damaged.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Item<'_>>, Fault> {
        self.place(
            |node| {
                let lower = node.lower_bound(key);
                // A branch's key is the smallest of its child: the child before the bound may hold `key`.
                match node.kind() {
                    NodeKind::Branch if lower == node.count() || node.key(lower) != key => {
                        lower.saturating_sub(1)
                    }
                    _ => lower,
                }
            },
            Way::Forward,
        )
    }

    /// Goes to the next key; from no position, to the first.
    ///
    /// # Errors
    /// When a page on the way is damaged, or its keys do not ascend.
    #[expect(clippy::should_implement_trait, reason = "a lending iterator: the item borrows the cursor")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Fault> {
        if self.stack.is_empty() {
            return self.first();
        }
        self.step(Way::Forward)
    }

    /// Goes to the previous key; from no position, to the last.
    ///
    /// # Errors
    /// When a page on the way is damaged, or its keys do not descend.
    pub fn prev(&mut self) -> Result<Option<Item<'_>>, Fault> {
        if self.stack.is_empty() {
            return self.last();
        }
        self.step(Way::Backward)
    }

    fn place(&mut self, choose: impl Fn(&Node<'d>) -> u16, way: Way) -> Result<Option<Item<'_>>, Fault> {
        self.stack.clear();
        let root = self.bucket.root_node()?;
        let mut result = self.descend(root, &choose);
        // The chosen leaf may end before the key sought.
        if result.is_ok() && self.item().is_none() {
            result = self.leave_leaf(way);
        }
        self.settle(result)
    }

    fn step(&mut self, way: Way) -> Result<Option<Item<'_>>, Fault> {
        let Some((node, index)) = self.stack.last_mut() else { return Ok(None) };
        if let Some(next) = way.neighbour(*index, node.count()) {
            *index = next;
            return Ok(self.item());
        }
        let result = self.leave_leaf(way);
        self.settle(result)
    }

    fn settle(&mut self, result: Result<(), Fault>) -> Result<Option<Item<'_>>, Fault> {
        if let Err(fault) = result {
            self.stack.clear();
            return Err(fault);
        }
        Ok(self.item())
    }

    /// Pushes `node` and what `choose` picks below it, down to a leaf.
    fn descend(&mut self, node: Node<'d>, choose: &impl Fn(&Node<'d>) -> u16) -> Result<(), Fault> {
        let mut node = node;
        loop {
            if self.stack.len() > MAX_DEPTH {
                return Err(node.fault(FaultKind::TooDeep { most: MAX_DEPTH }));
            }
            let index = choose(&node);
            match node.kind() {
                NodeKind::Leaf => {
                    node.check_order()?;
                    if node.count() == 0 && !self.stack.is_empty() {
                        return Err(node.fault(FaultKind::EmptyLeaf));
                    }
                    self.stack.push((node, index));
                    return Ok(());
                }
                NodeKind::Branch if node.count() == 0 => return Err(node.fault(FaultKind::EmptyBranch)),
                NodeKind::Branch => {
                    let child = self.bucket.db().node(node.child(index))?;
                    self.stack.push((node, index));
                    node = child;
                }
            }
        }
    }

    /// Goes from this leaf to the next one in `way`; without one, the cursor ends with no position and no item.
    fn leave_leaf(&mut self, way: Way) -> Result<(), Fault> {
        let Some((old, _)) = self.stack.pop() else { return Ok(()) };
        while let Some((node, index)) = self.stack.last_mut() {
            let Some(next) = way.neighbour(*index, node.count()) else {
                self.stack.pop();
                continue;
            };
            *index = next;
            let child = self.bucket.db().node(node.child(next))?;
            self.descend(child, &|node| match way {
                Way::Forward => 0,
                Way::Backward => node.count().saturating_sub(1),
            })?;
            return self.joins(&old, way);
        }
        Ok(())
    }

    /// That the leaf just reached continues the order of `old`, the leaf just left: what makes every walk end.
    fn joins(&self, old: &Node<'d>, way: Way) -> Result<(), Fault> {
        let Some((new, index)) = self.stack.last() else { return Ok(()) };
        let Some(old_end) = old.count().checked_sub(1) else { return Ok(()) };
        let (low, high) = match way {
            Way::Forward => (old.key(old_end), new.key(*index)),
            Way::Backward => (new.key(*index), old.key(0)),
        };
        if low < high {
            return Ok(());
        }
        let (node, index) = match way {
            Way::Forward => (new, *index),
            Way::Backward => (old, 0),
        };
        let kind = FaultKind::KeyOrder { index, key: readable(high), previous: readable(low) };
        Err(node.element_fault(index, kind))
    }
}
