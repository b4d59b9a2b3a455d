//! Archives of real files, their readers, and what happens when the files are not what was registered.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix_types::StorePath;
use sha2::Digest;

use super::*;

/// A folder that stands for a store, and a path in it.
struct Files {
    _folder: tempfile::TempDir,
    path: StorePath,
    nar: Vec<u8>,
}

/// `files` files of `bytes` bytes each, half of them random.
fn files(files: usize, bytes: usize) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("00000000000000000000000000000000-p");
    std::fs::create_dir(&root).unwrap();
    let mut rng = service_kit::backoff::Rng::seeded(7);
    for number in 0..files {
        let mut file = std::fs::File::create(root.join(format!("f{number}"))).unwrap();
        let mut block = vec![b'x'; bytes];
        for piece in block.chunks_mut(16) {
            let random = rng.next_u64().to_le_bytes();
            let some = random.len().min(piece.len());
            piece[..some].copy_from_slice(&random[..some]);
        }
        file.write_all(&block).unwrap();
    }
    std::fs::set_permissions(root.join("f0"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = StorePath::parse_str(root.to_str().unwrap()).unwrap();
    let mut nar = Vec::new();
    let written: Result<u64, nix_store::nar::NarError<std::io::Error>> = nix_store::nar::write(
        Path::new(path.as_str()),
        &mut |block| {
            nar.extend_from_slice(block);
            Ok(())
        },
        None,
    );
    assert_eq!(written.unwrap(), nar.len() as u64);
    Files { _folder: folder, path, nar }
}

fn packer(threads: usize, recipes: &[Recipe]) -> Arc<Packer> {
    Packer::new(threads, recipes, Clock::system(), crate::metrics::Metrics::new().packs())
}

fn recipe(codec: Codec) -> Recipe {
    Recipe { codec, level: None, parallel: None }
}

fn job(files: &Files, recipe: Recipe) -> Job {
    let nar_hash = Sha256::of(&files.nar);
    Job { path: files.path.clone(), nar_hash, nar_size: files.nar.len() as u64, recipe, listing: false }
}

/// Reads an archive to its end.
async fn read(reader: &mut Reader) -> Result<(Vec<u8>, Arc<Packed>), ReadError> {
    let mut bytes = Vec::new();
    loop {
        match reader.next().await? {
            Piece::Chunk(chunk) => bytes.extend_from_slice(&chunk),
            Piece::End(packed) => return Ok((bytes, packed)),
        }
    }
}

fn unpacked(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => bytes.to_vec(),
        Codec::Zstd => zstd::stream::decode_all(bytes).unwrap(),
        Codec::Xz => {
            let mut plain = Vec::new();
            std::io::Read::read_to_end(&mut liblzma::read::XzDecoder::new(bytes), &mut plain).unwrap();
            plain
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_small_and_large_gives_the_archive_back() {
    for files in [files(3, 1_000), files(2, 5 << 20), files(1, 36 << 20)] {
        for codec in [Codec::None, Codec::Zstd, Codec::Xz] {
            if codec == Codec::Xz && files.nar.len() > 20 << 20 {
                continue; // slow, and no other code runs
            }
            let packer = packer(2, &[recipe(codec)]);
            let mut reader = packer.open(&job(&files, recipe(codec)), false);
            let (bytes, packed) = read(&mut reader).await.unwrap();
            assert!(unpacked(codec, &bytes) == files.nar, "{codec}: another archive");
            assert_eq!(packed.file_size, bytes.len() as u64);
            assert_eq!(*packed.file_hash.bytes(), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
            assert_eq!(packed.nar_size, files.nar.len() as u64);
        }
    }
}

/// Two machines that push the same path to one cache must not disagree on its bytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_does_not_depend_on_the_number_of_threads() {
    let files = files(1, 9 << 20);
    for codec in [Codec::Zstd, Codec::Xz] {
        let recipe = Recipe { parallel: Some(true), level: Some(1), ..recipe(codec) };
        let mut made = Vec::new();
        for threads in [1, 3] {
            let mut reader = packer(threads, &[recipe]).open(&job(&files, recipe), false);
            made.push(read(&mut reader).await.unwrap().0);
        }
        assert!(made[0] == made[1], "{codec}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_registered_so_has_no_end() {
    for files in [files(1, 10), files(1, 12 << 20)] {
        let packer = packer(1, &[]);
        let good = job(&files, recipe(Codec::Zstd));
        let wrong_hash = Job { nar_hash: Sha256::of(b"other"), ..good.clone() };
        let mut reader = packer.open(&wrong_hash, false);
        let Err(ReadError::Pack(error)) = read(&mut reader).await else { panic!("taken") };
        assert!(matches!(*error, PackError::Hash { .. }), "{error:?}");
        for (more, codec) in [(1, Codec::None), (1, Codec::Zstd), (-1, Codec::None), (-1, Codec::Zstd)] {
            let nar_size = good.nar_size.checked_add_signed(more).unwrap();
            let wrong_size = Job { nar_size, recipe: recipe(codec), ..good.clone() };
            let mut reader = packer.open(&wrong_size, false);
            let Err(ReadError::Pack(error)) = read(&mut reader).await else { panic!("taken") };
            assert!(matches!(*error, PackError::Size { .. }), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_readers_share_one_pack_and_a_third_comes_too_late() {
    let files = files(1, 24 << 20);
    let recipe = recipe(Codec::None);
    let packer = packer(1, &[recipe, recipe, recipe]);
    let job = job(&files, recipe);
    let mut first = packer.open(&job, false);
    let mut second = packer.open(&job, false);
    assert_eq!(packer.packs().len(), 1, "both read one pack");
    // Nothing is let go of that the second has not read.
    for _ in 0..WINDOW {
        assert!(matches!(first.next().await, Ok(Piece::Chunk(_))));
    }
    let (one, two) = tokio::join!(read(&mut first), read(&mut second));
    assert!(two.unwrap().0 == files.nar);
    assert_eq!(one.unwrap().0.len(), files.nar.len() - WINDOW * CHUNK_BYTES);
    // Its beginning is gone: whoever comes now has a pack of its own.
    let mut third = packer.open(&job, false);
    assert!(read(&mut third).await.unwrap().0 == files.nar);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_is_kept_for_who_said_that_they_come_but_not_for_ever() {
    let files = files(1, 24 << 20);
    let recipe = recipe(Codec::None);
    let packer = packer(1, &[recipe, recipe, recipe]);
    let job = job(&files, recipe);
    let expected = packer.expect(&Arc::default(), &job);
    assert!(expected.is_some(), "there are others");
    let mut first = packer.open(&job, false);
    for _ in 0..WINDOW {
        assert!(matches!(first.next().await, Ok(Piece::Chunk(_))));
    }
    let mut second = packer.open(&job, false);
    drop(expected);
    assert_eq!(packer.packs().len(), 1, "both read one pack");
    let (one, two) = tokio::join!(read(&mut first), read(&mut second));
    assert_eq!(one.unwrap().0.len(), files.nar.len() - WINDOW * CHUNK_BYTES);
    assert!(two.unwrap().0 == files.nar);

    let never_comes = packer.expect(&Arc::default(), &job);
    let mut first = packer.open(&job, false);
    assert!(read(&mut first).await.unwrap().0 == files.nar);
    assert!(!packer.expectations.is_expected(&Key::of(&job)), "waited for in vain, and not again");
    drop(never_comes);
    assert!(
        Packer::expect(&packer, &Arc::default(), &Job { recipe: self::recipe(Codec::Xz), ..job }).is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn small_archives_are_kept_for_others_and_not_for_one_alone() {
    let files = files(1, 1_000);
    let recipe = recipe(Codec::Zstd);
    for (users, kept) in [(2, 1), (1, 0)] {
        let packer = packer(1, &vec![recipe; users]);
        let mut reader = packer.open(&job(&files, recipe), false);
        read(&mut reader).await.unwrap();
        drop(reader);
        assert_eq!(packer.packs().len(), kept);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_holds_up_another_is_cut_off() {
    let files = files(1, 24 << 20);
    let recipe = recipe(Codec::None);
    let packer = packer(1, &[recipe, recipe]);
    let job = job(&files, recipe);
    let mut quick = packer.open(&job, false);
    let mut slow = packer.open(&job, false);
    assert!(matches!(slow.next().await, Ok(Piece::Chunk(_))));
    assert!(read(&mut quick).await.unwrap().0 == files.nar);
    assert!(matches!(read(&mut slow).await, Err(ReadError::Fell(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_does_not_depend_on_who_began() {
    let files = files(1, 1_000);
    let recipe = recipe(Codec::Zstd);
    let packer = packer(1, &[recipe, recipe]);
    let job = job(&files, recipe);
    // All processors are taken, so the first cannot begin; and then it is gone.
    let taken = Arc::clone(&packer.cpu).acquire_owned().await.unwrap();
    let first = packer.open(&job, false);
    let mut second = packer.open(&job, false);
    drop(first);
    drop(taken);
    read(&mut second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_nobody_reads_any_more_ends() {
    let files = files(1, 24 << 20);
    let packer = packer(1, &[]);
    let job = job(&files, recipe(Codec::None));
    drop(packer.open(&job, false));
    // It has given its processor back.
    let mut reader = packer.open(&job, false);
    assert!(read(&mut reader).await.unwrap().0 == files.nar);
}
