//! Files that may be packed with gzip or Zstandard.
//!
//! Before: a path. After: [`crate::jsonl`] and [`crate::csv`] read its lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

use crate::DataError;

/// How names of packed files end.
pub(crate) const PACKED: [&str; 3] = ["gz", "zst", "zstd"];

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTANDARD: &[u8] = b"\x28\xb5\x2f\xfd";

/// The file's bytes, unpacked if they begin as packed ones do, whatever the file is called.
pub(crate) fn open(path: &Path) -> Result<Box<dyn BufRead>, DataError> {
    let unreadable = |source| DataError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let begin = file.fill_buf().map_err(unreadable)?;
    let (gzip, zstandard) = (begin.starts_with(GZIP), begin.starts_with(ZSTANDARD));
    Ok(if gzip {
        Box::new(BufReader::new(Unpacked { format: "gzip", inner: MultiGzDecoder::new(file) }))
    } else if zstandard {
        let inner = zstd::stream::read::Decoder::with_buffer(file).map_err(unreadable)?;
        Box::new(BufReader::new(Unpacked { format: "Zstandard", inner }))
    } else {
        Box::new(file)
    })
}

/// An error of reading what [`open`] gave, in words of the dataset's file.
pub(crate) fn failure(path: &Path, source: io::Error) -> DataError {
    let path = path.to_owned();
    match source.get_ref().and_then(|inner| inner.downcast_ref::<Damaged>()) {
        Some(Damaged { format, cut, message }) => {
            DataError::Packed { path, format, message: (!cut).then(|| message.clone()) }
        }
        None => DataError::Read { path, source },
    }
}

/// A reader whose errors say that they are the unpacker's.
struct Unpacked<R> {
    format: &'static str,
    inner: R,
}

/// What an unpacker said.
#[derive(Debug, thiserror::Error)]
#[error("{format} data: {message}")]
struct Damaged {
    format: &'static str,
    /// Whether the data only end too early.
    cut: bool,
    message: String,
}

impl<R: io::Read> io::Read for Unpacked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read(bytes).map_err(|error| match error.kind() {
            ErrorKind::Interrupted => error,
            kind => {
                let cut = kind == ErrorKind::UnexpectedEof;
                io::Error::other(Damaged { format: self.format, cut, message: error.to_string() })
            }
        })
    }
}
