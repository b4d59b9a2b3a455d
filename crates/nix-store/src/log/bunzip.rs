//! Bytes packed by bzip2 come in, what was packed comes out, or what is wrong with them. Any bytes may come: the work is
//! bounded by their number, the most that may come out and one block. Checks every sum; takes several streams one after
//! another, as bzip2 does; refuses the randomised blocks of versions before 1.0.

/// Symbols of a group that share a table.
const GROUP: usize = 50;
/// Most groups of a block; more are read and not used.
const SELECTORS_MAX: usize = 18_002;
/// Longest code, in bits.
const CODE_BITS_MAX: usize = 20;
/// All bytes, the two signs for runs and the end, less one byte that needs no code.
const ALPHABET_MAX: usize = 258;

/// Why bytes cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// They end too early.
    #[error("the packed bytes end in the middle")]
    Truncated,
    /// They are no bytes of bzip2, or damaged.
    #[error("the packed bytes are damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// More than asked for comes out.
    #[error("more than {bytes_max} bytes were packed")]
    TooLong {
        /// The most that was asked for.
        bytes_max: usize,
    },
}

/// Unpacks all of `packed`, to at most `bytes_max` bytes.
///
/// # Errors
/// [`UnpackError`]
pub fn unpack(packed: &[u8], bytes_max: usize) -> Result<Vec<u8>, UnpackError> {
    let mut bits = Bits { bytes: packed, held: 0, count: 0, invented: 0 };
    let mut out = Out { bytes: Vec::new(), max: bytes_max };
    let mut block = Block::default();
    loop {
        stream(&mut bits, &mut block, &mut out)?;
        bits.align();
        if bits.is_at_end() {
            return Ok(out.bytes);
        }
    }
}

fn damaged(what: &'static str) -> UnpackError {
    UnpackError::Damaged { what }
}

/// One stream, from its head to the sum of all its blocks.
fn stream(bits: &mut Bits<'_>, block: &mut Block, out: &mut Out) -> Result<(), UnpackError> {
    if bits.take(24)? != 0x0042_5a68 {
        return Err(damaged("no head of bzip2"));
    }
    let level = match bits.take(8)? {
        level @ 0x31..=0x39 => level as usize - 0x30,
        _ => return Err(damaged("an unknown block size")),
    };
    let mut sum = 0_u32;
    loop {
        let magic = (bits.take(24)?, bits.take(24)?);
        match magic {
            (0x0031_4159, 0x0026_5359) => {
                let block_sum = block.unpack(bits, level * 100_000, out)?;
                sum = sum.rotate_left(1) ^ block_sum;
            }
            (0x0017_7245, 0x0038_5090) => {
                return if bits.take(32)? == sum { Ok(()) } else { Err(damaged("a wrong sum at the end")) };
            }
            _ => return Err(damaged("no block where one should begin")),
        }
    }
}

/// The room one block needs, used for all of them.
#[derive(Default)]
struct Block {
    /// The sorted bytes in the low 8 bits; above them, later, where the next one is.
    sorted: Vec<u32>,
    selectors: Vec<u8>,
}

impl Block {
    /// Unpacks one block and gives its sum.
    fn unpack(&mut self, bits: &mut Bits<'_>, size_max: usize, out: &mut Out) -> Result<u32, UnpackError> {
        let sum = bits.take(32)?;
        if bits.take(1)? != 0 {
            return Err(damaged("a randomised block, which bzip2 makes no more"));
        }
        let origin = bits.take(24)? as usize;
        let mut alphabet = alphabet(bits)?;
        let tables_count = bits.take(3)? as usize;
        if !(2..=6).contains(&tables_count) {
            return Err(damaged("an impossible number of tables"));
        }
        self.read_selectors(bits, tables_count)?;
        let symbols = alphabet.len() + 2;
        let mut tables = Vec::with_capacity(tables_count);
        for _ in 0..tables_count {
            tables.push(Table::read(bits, symbols)?);
        }
        self.read_symbols(bits, &tables, &mut alphabet, size_max)?;
        if origin >= self.sorted.len() {
            return Err(damaged("a start outside its block"));
        }
        self.link();
        let written = self.write(origin, out)?;
        if written == sum { Ok(sum) } else { Err(damaged("a wrong sum of a block")) }
    }

    fn read_selectors(&mut self, bits: &mut Bits<'_>, tables: usize) -> Result<(), UnpackError> {
        let count = bits.take(15)? as usize;
        let mut recent: [u8; 6] = [0, 1, 2, 3, 4, 5];
        self.selectors.clear();
        for number in 0..count {
            let mut place = 0;
            while bits.take(1)? == 1 {
                place += 1;
                if place >= tables {
                    return Err(damaged("an unknown table"));
                }
            }
            recent[..=place].rotate_right(1);
            if number < SELECTORS_MAX {
                self.selectors.push(recent[0]);
            }
        }
        Ok(())
    }

    /// Reads the block's symbols to the end sign: runs of the byte that was last, and places in the list of recent ones.
    fn read_symbols(
        &mut self,
        bits: &mut Bits<'_>,
        tables: &[Table],
        recent: &mut [u8],
        size_max: usize,
    ) -> Result<(), UnpackError> {
        self.sorted.clear();
        let end = recent.len() + 1;
        let (mut run, mut weight) = (0_usize, 1_usize);
        for selector in &self.selectors {
            let table = &tables[usize::from(*selector)];
            for _ in 0..GROUP {
                let symbol = usize::from(table.symbol(bits)?);
                if symbol < 2 {
                    // Digits 1 and 2 to the base of 2, the lowest first.
                    run += weight << symbol;
                    weight <<= 1;
                    if run > size_max {
                        return Err(damaged("a run longer than a block"));
                    }
                    continue;
                }
                let length = self.sorted.len();
                if length + run + usize::from(symbol != end) > size_max {
                    return Err(damaged("more bytes than a block has"));
                }
                self.sorted.resize(length + run, u32::from(recent[0]));
                (run, weight) = (0, 1);
                if symbol == end {
                    return Ok(());
                }
                recent[..symbol].rotate_right(1);
                self.sorted.push(u32::from(recent[0]));
            }
        }
        Err(damaged("no end of a block"))
    }

    /// Notes at each sorted byte which one comes after it.
    fn link(&mut self) {
        let mut starts = [0_u32; 256];
        for byte in &self.sorted {
            starts[(byte & 0xff) as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += std::mem::replace(start, sum);
        }
        // A block has fewer than 2^24 bytes.
        for place in 0..self.sorted.len() {
            let start = &mut starts[(self.sorted[place] & 0xff) as usize];
            self.sorted[*start as usize] |= u32::try_from(place).unwrap_or(0) << 8;
            *start += 1;
        }
    }

    /// Follows the links from `origin`, puts runs of four and their lengths back, and gives the sum of what came out.
    fn write(&self, origin: usize, out: &mut Out) -> Result<u32, UnpackError> {
        let mut sum = !0;
        let mut at = self.sorted[origin] >> 8;
        let (mut last, mut equal) = (None, 0);
        for _ in 0..self.sorted.len() {
            let entry = self.sorted[at as usize];
            at = entry >> 8;
            let byte = entry.to_le_bytes()[0];
            if equal == 4 {
                let repeated = last.unwrap_or(byte);
                sum = (0..byte).fold(sum, |sum, _| summed(sum, repeated));
                out.put(repeated, usize::from(byte))?;
                (last, equal) = (None, 0);
                continue;
            }
            equal = if last == Some(byte) { equal + 1 } else { 1 };
            last = Some(byte);
            sum = summed(sum, byte);
            out.put(byte, 1)?;
        }
        Ok(!sum)
    }
}

/// The bytes that occur in a block.
fn alphabet(bits: &mut Bits<'_>) -> Result<Vec<u8>, UnpackError> {
    let rows = bits.take(16)?;
    let mut bytes = Vec::new();
    for row in (0..16_u8).filter(|row| rows & (0x8000 >> row) != 0) {
        let columns = bits.take(16)?;
        let there = (0..16_u8).filter(|column| columns & (0x8000 >> column) != 0);
        bytes.extend(there.map(|column| row * 16 + column));
    }
    if bytes.is_empty() { Err(damaged("a block without bytes")) } else { Ok(bytes) }
}

/// A prefix code, by its lengths.
struct Table {
    /// Behind the last code of each length, filled up to [`CODE_BITS_MAX`] bits.
    limits: [u32; CODE_BITS_MAX + 1],
    /// What to subtract from a code of each length to have its place in `symbols`.
    offsets: [u32; CODE_BITS_MAX + 1],
    /// The symbols, in the order of their codes.
    symbols: Vec<u16>,
}

impl Table {
    fn read(bits: &mut Bits<'_>, symbols: usize) -> Result<Self, UnpackError> {
        let mut lengths = [0_u8; ALPHABET_MAX];
        let lengths = &mut lengths[..symbols];
        let mut length = bits.take(5)?;
        for place in lengths.iter_mut() {
            loop {
                if !(1..=20).contains(&length) {
                    return Err(damaged("a code of an impossible length"));
                }
                if bits.take(1)? == 0 {
                    break;
                }
                length = if bits.take(1)? == 0 { length + 1 } else { length - 1 };
            }
            *place = length.to_le_bytes()[0];
        }
        let mut table = Self {
            limits: [0; CODE_BITS_MAX + 1],
            offsets: [0; CODE_BITS_MAX + 1],
            symbols: Vec::with_capacity(symbols),
        };
        let mut code = 0_u32;
        for length in 1..=CODE_BITS_MAX {
            code <<= 1;
            let before = table.symbols.len();
            // Wraps where a code lies before its place; so does the way back.
            table.offsets[length] = code.wrapping_sub(u32::try_from(before).unwrap_or(0));
            let of_length = (0_u16..).zip(lengths.iter()).filter(|(_, one)| usize::from(**one) == length);
            table.symbols.extend(of_length.map(|(symbol, _)| symbol));
            code += u32::try_from(table.symbols.len() - before).unwrap_or(0);
            // Lengths that no code can have reach beyond all that is ever looked up; what they name is checked there.
            table.limits[length] = code << (CODE_BITS_MAX - length);
        }
        Ok(table)
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u16, UnpackError> {
        let ahead = bits.ahead();
        for length in 1..=CODE_BITS_MAX {
            if ahead < self.limits[length] {
                bits.skip(length)?;
                let place = (ahead >> (CODE_BITS_MAX - length)).wrapping_sub(self.offsets[length]);
                let symbol = usize::try_from(place).ok().and_then(|place| self.symbols.get(place));
                return symbol.copied().ok_or(damaged("a code that means nothing"));
            }
        }
        Err(damaged("a code that means nothing"))
    }
}

/// What comes out.
struct Out {
    bytes: Vec<u8>,
    max: usize,
}

impl Out {
    #[inline]
    fn put(&mut self, byte: u8, times: usize) -> Result<(), UnpackError> {
        let length = self.bytes.len() + times;
        if length > self.max {
            return Err(UnpackError::TooLong { bytes_max: self.max });
        }
        self.bytes.resize(length, byte);
        Ok(())
    }
}

/// Bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The next bits, the first one in the highest place.
    held: u64,
    count: u32,
    /// How many of the last bits held were never there.
    invented: u32,
}

impl Bits<'_> {
    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.split_first() {
                Some((byte, rest)) => {
                    self.bytes = rest;
                    *byte
                }
                None => {
                    self.invented += 8;
                    0
                }
            };
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next [`CODE_BITS_MAX`] bits, with zeros behind the end.
    fn ahead(&mut self) -> u32 {
        if self.count < 32 {
            self.fill();
        }
        u32::try_from(self.held >> (64 - CODE_BITS_MAX)).unwrap_or(0)
    }

    fn skip(&mut self, count: usize) -> Result<(), UnpackError> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if self.count < self.invented + count {
            return Err(UnpackError::Truncated);
        }
        self.held <<= count;
        self.count -= count;
        Ok(())
    }

    /// 1 to 32 bits as a number.
    fn take(&mut self, count: usize) -> Result<u32, UnpackError> {
        if self.count < 32 {
            self.fill();
        }
        let taken = u32::try_from(self.held >> (64 - count)).unwrap_or(0);
        self.skip(count)?;
        Ok(taken)
    }

    /// Goes on to the next whole byte.
    fn align(&mut self) {
        let odd = self.count % 8;
        self.held <<= odd;
        self.count -= odd;
    }

    fn is_at_end(&mut self) -> bool {
        self.fill();
        self.count == self.invented
    }
}

/// The sum with one more byte: CRC-32, the highest bit first.
fn summed(sum: u32, byte: u8) -> u32 {
    (sum << 8) ^ SUMS[usize::from((sum >> 24).to_le_bytes()[0] ^ byte)]
}

const SUMS: [u32; 256] = {
    let mut sums = [0_u32; 256];
    let mut byte = 0_u32;
    while byte < 256 {
        let mut sum = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000_0000 == 0 { sum << 1 } else { (sum << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        sums[byte as usize] = sum;
        byte += 1;
    }
    sums
};
