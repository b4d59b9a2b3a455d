//! What compressors hold in memory: pure.
//!
//! In flow a recipe and how many threads there are; out flow how many of them fit, and the bytes that all of it takes
//! at most. The figures are those of the libraries' own parameters for large sources (zstd 1.5, `clevels.h`: window and
//! both tables; xz, the table of its manual), held against real compressions by the test below. What chunks and parts
//! take is not counted here.

use nix_types::cache_url::Codec;

use super::{Job, Recipe, THREADS_FROM, THREADS_MAX};

const MIB: u64 = 1 << 20;
/// One archive's compressors together, when there are several; a single one takes what its level needs.
const THREADS_BYTES_MAX: u64 = 24 * MIB;
/// zstd's own buffers beside its threads.
const ZSTD_SHARED: u64 = 8 * MIB;
/// A source this many times smaller than the tables of its level does not fill them.
const TABLES_PER_BYTE: u64 = 12;

/// How many threads compress an archive in pieces, on a machine that has so many for it; `None` when it is compressed in
/// one, because it is small or because not even one more would fit.
pub(super) fn threads(job: &Job, available: u32) -> Option<u32> {
    let in_pieces = job.recipe.parallel.unwrap_or(job.nar_size >= THREADS_FROM);
    let fits = |threads: &u32| of_threads(job.recipe, *threads) <= THREADS_BYTES_MAX;
    (1..=THREADS_MAX.min(available)).rev().find(fits).filter(|_| in_pieces)
}

/// What compressing an archive takes at most, in bytes.
pub(super) fn compressor(job: &Job, available: u32) -> u64 {
    match threads(job, available) {
        Some(threads) => of_threads(job.recipe, threads),
        None => {
            let filled = job.nar_size.saturating_mul(TABLES_PER_BYTE).saturating_add(MIB);
            let is_known = job.nar_size > 0;
            of_one(job.recipe).min(if is_known { filled } else { u64::MAX })
        }
    }
}

fn of_threads(recipe: Recipe, threads: u32) -> u64 {
    let shared = if recipe.codec == Codec::Zstd { ZSTD_SHARED } else { 0 };
    // Each of xz' threads keeps its block and what became of it.
    let each = if recipe.codec == Codec::Xz { 2 } else { 1 } * of_one(recipe);
    each.saturating_mul(u64::from(threads)).saturating_add(shared)
}

/// One compressor of this level.
fn of_one(recipe: Recipe) -> u64 {
    let mib = match (recipe.codec, recipe.level) {
        (Codec::None, _) => 0,
        (Codec::Zstd, level) => match level.unwrap_or(3) {
            ..=3 => 4,
            4 => 6,
            5..=8 => 8,
            9 => 16,
            10 | 11 => 30,
            12 | 14 => 54,
            13 | 16 => 40,
            15 => 70,
            17 | 18 => 60,
            19 => 92,
            20 => 196,
            21 => 388,
            _ => 772,
        },
        (Codec::Xz, level) => match level.unwrap_or(6) {
            ..=0 => 3,
            1 => 9,
            2 => 17,
            3 => 32,
            4 => 48,
            5 | 6 => 94,
            7 => 186,
            8 => 370,
            _ => 674,
        },
    };
    mib * MIB
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix_types::{Sha256, StorePath};
    use zstd::stream::write::Encoder;
    use zstd::zstd_safe::{CCtx, CParameter};

    use super::super::encode::ZSTD_JOB_BYTES;
    use super::*;

    fn job(codec: Codec, level: i32, nar_size: u64) -> Job {
        let path = StorePath::parse_str("/nix/store/00000000000000000000000000000000-a").unwrap();
        let recipe = Recipe { codec, level: Some(level), parallel: None };
        Job { path, nar_hash: Sha256::of(b""), nar_size, recipe, listing: false }
    }

    #[test]
    fn threads_are_as_many_as_fit() {
        let large = THREADS_FROM;
        let cases = [(3, Some(4)), (7, Some(2)), (9, Some(1)), (12, None), (19, None), (22, None)];
        for (level, wanted) in cases {
            assert_eq!(threads(&job(Codec::Zstd, level, large), 9), wanted, "zstd {level}");
        }
        for (level, wanted) in [(0, Some(4)), (1, Some(1)), (2, None), (6, None), (9, None)] {
            assert_eq!(threads(&job(Codec::Xz, level, large), 9), wanted, "xz {level}");
        }
        assert_eq!(threads(&job(Codec::Zstd, 3, large), 2), Some(2));
        assert_eq!(threads(&job(Codec::Zstd, 3, large - 1), 2), None);
    }

    #[test]
    fn a_small_source_fills_no_large_tables() {
        assert!(compressor(&job(Codec::Xz, 9, 20_000), 4) < 2 * MIB);
        assert_eq!(compressor(&job(Codec::Xz, 9, 1 << 30), 4), 674 * MIB);
        assert_eq!(compressor(&job(Codec::Zstd, 3, 0), 4), 4 * MIB, "of a size that is not known");
        assert_eq!(compressor(&job(Codec::None, 0, 1 << 30), 4), 0);
    }

    /// The library's own account of what it holds is not above ours.
    #[test]
    fn zstd_takes_no_more_than_it_is_granted() {
        let noise: Vec<u8> =
            (0_u32..1 << 20).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for level in [1, 3, 4, 5, 8, 9, 11, 13, 16] {
            for workers in [None, Some(2)] {
                let job = job(Codec::Zstd, level, 1 << 30);
                let mut context = CCtx::create();
                context.set_parameter(CParameter::CompressionLevel(level)).unwrap();
                if let Some(workers) = workers {
                    context.set_parameter(CParameter::NbWorkers(workers)).unwrap();
                    context.set_parameter(CParameter::JobSize(ZSTD_JOB_BYTES)).unwrap();
                }
                let mut encoder = Encoder::with_context(std::io::sink(), &mut context);
                (0..4).for_each(|_| encoder.write_all(&noise).unwrap());
                drop(encoder);
                let granted =
                    workers.map_or_else(|| of_one(job.recipe), |workers| of_threads(job.recipe, workers));
                let held = u64::try_from(context.sizeof()).unwrap();
                assert!(held <= granted, "level {level}, {workers:?}: {held} of {granted}");
            }
        }
    }
}
