//! Checksums of files: what was written is what is read, or it is said which file is not.
//!
//! A checkpoint has `manifest.json` with length and SHA-256 of each of its files, piece by piece, so that all cores take part
//! and a damaged place is named. A file of one piece has the digest that `sha256sum` prints.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file that has the checksums of a folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Bytes of a piece.
const PIECE: u64 = 64 << 20;

/// Length and digests of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checksum {
    bytes: u64,
    /// Bytes of each piece but the last.
    piece: u64,
    /// SHA-256 of each piece, in hexadecimal digits.
    sha256: Vec<String>,
}

/// The checksums of a folder's files, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    files: BTreeMap<String, Checksum>,
}

impl Checksum {
    /// Of a file as it is now.
    pub(crate) fn of(file: &Path) -> io::Result<Self> {
        Self::with_pieces(file, PIECE)
    }

    fn with_pieces(file: &Path, piece: u64) -> io::Result<Self> {
        let bytes = fs::metadata(file)?.len();
        let digest = |number: u64| -> io::Result<String> {
            let mut reader = File::open(file)?;
            reader.seek(SeekFrom::Start(number * piece))?;
            let mut reader = reader.take(piece);
            let mut digest = Sha256::new();
            let mut buffer = vec![0; 1 << 18];
            loop {
                match reader.read(&mut buffer)? {
                    0 => break,
                    count => digest.update(&buffer[..count]),
                }
            }
            Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
        };
        let pieces = bytes.div_ceil(piece).max(1);
        let sha256 = (0..pieces).into_par_iter().map(digest).collect::<io::Result<_>>()?;
        Ok(Self { bytes, piece, sha256 })
    }

    /// The damage of the file, in words, if it is not as it was.
    ///
    /// # Errors
    /// If the file is there and cannot be read for a reason that says nothing of its contents.
    pub(crate) fn damage(&self, file: &Path) -> io::Result<Option<String>> {
        let name = file.display();
        let found = match Self::with_pieces(file, self.piece.max(1)) {
            Ok(found) => found,
            Err(error) if is_of_the_file(&error) => {
                return Ok(Some(format!("`{name}` cannot be read: {error}")));
            }
            Err(error) => return Err(error),
        };
        if found == *self {
            return Ok(None);
        }
        if found.bytes != self.bytes {
            return Ok(Some(format!("`{name}` has {} bytes; {} were written", found.bytes, self.bytes)));
        }
        let place = found.sha256.iter().zip(&self.sha256).position(|(found, written)| found != written);
        let first = place.unwrap_or(0) as u64 * self.piece;
        let last = (first + self.piece).min(self.bytes);
        Ok(Some(format!(
            "`{name}` is not what was written: its bytes {first} to {last} have another SHA-256"
        )))
    }
}

/// True of an error of reading that tells of the file rather than of this process.
fn is_of_the_file(error: &io::Error) -> bool {
    !matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::OutOfMemory | ErrorKind::Interrupted)
        && !matches!(error.raw_os_error(), Some(23 | 24)) // too many open files
}

impl Manifest {
    /// Of the files in a folder as they are now.
    pub(crate) fn of(folder: &Path) -> io::Result<Self> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != MANIFEST && entry.file_type()?.is_file() {
                names.push(name);
            }
        }
        let sums = names.into_par_iter().map(|name| {
            let sum = Checksum::of(&folder.join(&name))?;
            Ok((name, sum))
        });
        Ok(Self { files: sums.collect::<io::Result<_>>()? })
    }

    /// True if the folder had this file when it was written.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The first damage of the folder's files, in words. Files that were added are nobody's business.
    ///
    /// # Errors
    /// As [`Checksum::damage`].
    pub(crate) fn damage(&self, folder: &Path) -> io::Result<Option<String>> {
        let found: Vec<Option<String>> = self
            .files
            .par_iter()
            .map(|(name, sum)| sum.damage(&folder.join(name)))
            .collect::<io::Result<_>>()?;
        let all: Vec<String> = found.into_iter().flatten().collect();
        Ok((!all.is_empty()).then(|| all.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_cut_and_missing_file_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let at = |name: &str| folder.path().join(name);
        let bytes: Vec<u8> = (0..=255).collect();
        fs::write(at("weights"), &bytes).expect("written");
        fs::write(at("config"), "x").expect("written");
        let manifest = Manifest::of(folder.path()).expect("hashed");
        assert_eq!(manifest.damage(folder.path()).expect("read"), None);
        for bit in [0, 7, 1000, 2047] {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(at("weights"), &flipped).expect("written");
            let damage = manifest.damage(folder.path()).expect("read").expect("found");
            assert!(damage.contains("weights") && damage.contains("SHA-256"), "{damage}");
        }
        fs::write(at("weights"), &bytes[..255]).expect("written");
        let damage = manifest.damage(folder.path()).expect("read").expect("found");
        assert!(damage.contains("has 255 bytes; 256 were written"), "{damage}");
        fs::write(at("weights"), &bytes).expect("written");
        fs::remove_file(at("config")).expect("removed");
        fs::write(at("notes"), "of a reader").expect("written");
        let damage = manifest.damage(folder.path()).expect("read").expect("found");
        assert!(damage.contains("config") && !damage.contains("weights"), "{damage}");
    }

    #[test]
    fn pieces_name_the_damaged_place_and_one_piece_has_the_usual_digest() {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("abc");
        fs::write(&file, "abc").expect("written");
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Checksum::of(&file).expect("hashed").sha256, [known]);
        let sum = Checksum::with_pieces(&file, 2).expect("hashed");
        assert_eq!(sum.sha256.len(), 2);
        fs::write(&file, "abd").expect("written");
        let damage = sum.damage(&file).expect("read").expect("found");
        assert!(damage.contains("its bytes 2 to 3 have another SHA-256"), "{damage}");
        fs::write(&file, "").expect("written");
        assert_eq!(Checksum::of(&file).expect("hashed").sha256.len(), 1, "an empty file has a digest too");
    }
}
