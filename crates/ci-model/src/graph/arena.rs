//! Slices come in, a number for each goes out, under which it stays. Room grows by whole chunks, so that nothing is ever
//! moved and at most a chunk is unused.

/// Parts of a chunk, as a power of two.
const CHUNK_BITS: u32 = 16;
const CHUNK_LEN: usize = 1 << CHUNK_BITS;

/// Slices, each within one chunk; a longer one has a chunk of its own.
#[derive(Debug)]
pub(super) struct Arena<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Copy> Arena<T> {
    /// Keeps a slice.
    pub(super) fn push_all(&mut self, items: &[T]) -> u32 {
        if items.is_empty() {
            return 0;
        }
        let fits =
            self.chunks.last().is_some_and(|chunk| CHUNK_LEN.saturating_sub(chunk.len()) >= items.len());
        if !fits {
            self.chunks.push(Vec::new());
        }
        let at = self.chunks.len() - 1;
        let chunk = &mut self.chunks[at];
        if chunk.capacity() - chunk.len() < items.len() {
            // The first chunk grows from small: most graphs of tests and of small repositories never fill it.
            let room = if at == 0 { (chunk.len() * 2).clamp(64, CHUNK_LEN) } else { CHUNK_LEN };
            chunk.reserve_exact(room.saturating_sub(chunk.len()).max(items.len()));
        }
        let start = chunk.len();
        chunk.extend_from_slice(items);
        number(at << CHUNK_BITS | start)
    }

    /// The `len` parts from `at` on.
    pub(super) fn slice(&self, at: u32, len: usize) -> &[T] {
        if len == 0 {
            return &[];
        }
        let start = at as usize & (CHUNK_LEN - 1);
        &self.chunks[(at >> CHUNK_BITS) as usize][start..start + len]
    }

    /// The same, to be changed.
    pub(super) fn slice_mut(&mut self, at: u32, len: usize) -> &mut [T] {
        let start = at as usize & (CHUNK_LEN - 1);
        &mut self.chunks[(at >> CHUNK_BITS) as usize][start..start + len]
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let parts: usize = self.chunks.iter().map(Vec::capacity).sum();
        parts * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

/// A count of things in memory, each of which takes a byte at least.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a graph has fewer than 2^32 nodes, needs and bytes of names")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_what_they_were() {
        let mut arena = Arena::<u32>::default();
        let lens = [1, 0, 5, CHUNK_LEN - 1, 2, CHUNK_LEN, CHUNK_LEN + 1, 3, 3 * CHUNK_LEN, 1];
        let slices: Vec<Vec<u32>> =
            lens.iter().map(|len| (0..number(*len)).map(|i| i ^ 77).collect()).collect();
        let at: Vec<u32> = slices.iter().map(|slice| arena.push_all(slice)).collect();
        for (at, slice) in at.iter().zip(&slices) {
            assert!(arena.slice(*at, slice.len()) == slice, "one of {} differs", slice.len());
        }
    }

    #[test]
    fn at_most_a_chunk_is_unused() {
        let mut arena = Arena::<u8>::default();
        for _ in 0..100_000 {
            arena.push_all(&[0; 20]);
        }
        assert!(arena.memory_bytes() < 2_000_000 + 2 * CHUNK_LEN + 10_000, "{}", arena.memory_bytes());
    }
}
