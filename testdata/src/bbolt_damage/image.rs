//! A bbolt file under the knife: its fields by page and element, with no look at whether that makes sense.

/// Length of a page of every base, in bytes.
pub const PAGE: usize = 4096;
/// The first page number behind the base that bbolt's library made: pages that a damage adds start here.
pub const ADDED: u64 = 209;

/// Bytes of a page header, of a leaf or branch element, and of a bucket's header.
const SIXTEEN: usize = 16;
/// Where a meta lies in its page, and how many of its bytes the checksum covers.
const META: usize = 16;
const META_SUMMED: usize = 56;

/// Where a field lies within a meta, in bytes.
#[derive(Debug, Clone, Copy)]
pub enum MetaField {
    /// Format version, 32 bits.
    Version = 4,
    /// Page size, 32 bits.
    PageSize = 8,
    /// Root page, 64 bits.
    Root = 16,
    /// Freelist page, 64 bits.
    Freelist = 32,
    /// High-water mark, 64 bits.
    HighWaterMark = 40,
    /// Transaction number, 64 bits.
    Txid = 48,
}

/// The bytes of a file.
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// Over these bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// The bytes as they are now.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn at(page: u64, within: usize) -> usize {
        usize::try_from(page).expect("a page of a small file") * PAGE + within
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes[at..at + N].try_into().expect("as many bytes")
    }

    /// Overwrites bytes at a place of a page.
    pub fn put(&mut self, page: u64, within: usize, bytes: &[u8]) {
        let at = Self::at(page, within);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// One page.
    pub fn page(&mut self, page: u64) -> &mut [u8] {
        let at = Self::at(page, 0);
        &mut self.bytes[at..at + PAGE]
    }

    /// Fills a page with zeros.
    pub fn zero(&mut self, page: u64) {
        self.page(page).fill(0);
    }

    /// Exchanges two pages.
    pub fn swap(&mut self, one: u64, other: u64) {
        let first = self.page(one).to_vec();
        let second = self.page(other).to_vec();
        self.put(one, 0, &second);
        self.put(other, 0, &first);
    }

    /// Cuts the file, or lengthens it with zeros, to so many pages.
    pub fn set_pages(&mut self, pages: u64) {
        self.bytes.resize(Self::at(pages, 0), 0);
    }

    /// Cuts the file to so many bytes.
    pub fn cut(&mut self, len_bytes: usize) {
        self.bytes.truncate(len_bytes);
    }

    /// Sets the page number in a page's header.
    pub fn set_id(&mut self, page: u64, id: u64) {
        self.put(page, 0, &id.to_le_bytes());
    }

    /// Sets a page's flags.
    pub fn set_flags(&mut self, page: u64, flags: u16) {
        self.put(page, 8, &flags.to_le_bytes());
    }

    /// Sets a page's number of elements.
    pub fn set_count(&mut self, page: u64, count: u16) {
        self.put(page, 10, &count.to_le_bytes());
    }

    /// A page's number of elements.
    #[must_use]
    pub fn count(&self, page: u64) -> u16 {
        u16::from_le_bytes(self.get(Self::at(page, 10)))
    }

    /// A page's flags.
    #[must_use]
    pub fn flags(&self, page: u64) -> u16 {
        u16::from_le_bytes(self.get(Self::at(page, 8)))
    }

    /// Sets the number of a page's further pages.
    pub fn set_overflow(&mut self, page: u64, overflow: u32) {
        self.put(page, 12, &overflow.to_le_bytes());
    }

    /// Where an element starts within its page.
    #[must_use]
    pub fn element(index: usize) -> usize {
        SIXTEEN + index * SIXTEEN
    }

    /// Sets the word of this number, 0 to 3, of an element: for a leaf flags, position, key and value length; for a branch
    /// position and key length.
    pub fn set_word(&mut self, page: u64, index: usize, word: usize, value: u32) {
        self.put(page, Self::element(index) + 4 * word, &value.to_le_bytes());
    }

    /// The word of this number of an element.
    #[must_use]
    pub fn word(&self, page: u64, index: usize, word: usize) -> u32 {
        u32::from_le_bytes(self.get(Self::at(page, Self::element(index) + 4 * word)))
    }

    /// The child of a branch's element.
    #[must_use]
    pub fn child(&self, page: u64, index: usize) -> u64 {
        u64::from_le_bytes(self.get(Self::at(page, Self::element(index) + 8)))
    }

    /// Sets the child of a branch's element.
    pub fn set_child(&mut self, page: u64, index: usize, child: u64) {
        self.put(page, Self::element(index) + 8, &child.to_le_bytes());
    }

    /// Where the key of an element starts within its page.
    #[must_use]
    pub fn key(&self, page: u64, index: usize) -> usize {
        let is_leaf = self.flags(page) == 2;
        Self::element(index) + self.word(page, index, usize::from(is_leaf)) as usize
    }

    /// Where the value of a leaf's element starts within its page.
    #[must_use]
    pub fn value(&self, page: u64, index: usize) -> usize {
        self.key(page, index) + self.word(page, index, 2) as usize
    }

    /// Overwrites bytes of the key of an element, from its byte `from` on.
    pub fn put_key(&mut self, page: u64, index: usize, from: usize, bytes: &[u8]) {
        self.put(page, self.key(page, index) + from, bytes);
    }

    /// Sets the root page of the bucket in a leaf's element.
    pub fn set_bucket_root(&mut self, page: u64, index: usize, root: u64) {
        self.put(page, self.value(page, index), &root.to_le_bytes());
    }

    /// Where the page inside the inline bucket of a leaf's element starts within that leaf.
    #[must_use]
    pub fn inline(&self, page: u64, index: usize) -> usize {
        self.value(page, index) + SIXTEEN
    }

    /// Sets the id of this number in a freelist.
    pub fn set_free(&mut self, page: u64, index: usize, id: u64) {
        self.put(page, SIXTEEN + 8 * index, &id.to_le_bytes());
    }

    /// Sets a field of a meta and makes its checksum right again.
    pub fn set_meta(&mut self, slot: u64, field: MetaField, value: u64) {
        let bytes = value.to_le_bytes();
        let len = if matches!(field, MetaField::Version | MetaField::PageSize) { 4 } else { 8 };
        self.put(slot, META + field as usize, &bytes[..len]);
        let at = Self::at(slot, META);
        // FNV-1a.
        let sum = self.bytes[at..at + META_SUMMED].iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.put(slot, META + META_SUMMED, &sum.to_le_bytes());
    }

    /// Appends branches with one child each, page numbers from [`ADDED`] on, and below the last a leaf with one pair; the
    /// high-water mark of meta 0 grows with them. Returns the number of the first.
    pub fn add_chain(&mut self, branches: u64, key: &[u8]) -> u64 {
        let leaf = ADDED + branches;
        self.set_pages(leaf + 1);
        let len = u32::try_from(key.len()).expect("a short key");
        for page in ADDED..leaf {
            self.set_id(page, page);
            self.set_flags(page, 1);
            self.set_count(page, 1);
            self.set_word(page, 0, 0, 16);
            self.set_word(page, 0, 1, len);
            self.set_child(page, 0, page + 1);
            self.put(page, 32, key);
        }
        self.set_id(leaf, leaf);
        self.set_flags(leaf, 2);
        self.set_count(leaf, 1);
        self.set_word(leaf, 0, 1, 16);
        self.set_word(leaf, 0, 2, len);
        self.put(leaf, 32, key);
        self.set_meta(0, MetaField::HighWaterMark, leaf + 1);
        ADDED
    }
}
