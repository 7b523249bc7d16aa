//! Metadata I/O, one turn at a time; see [`crate::io::pace`].

use std::iter::Peekable;
use std::ops::Range;

use rb_io::{Buffer, IoError, Request};

use crate::error::Error;
use crate::io::meta_io::{MetaIo, READ_BUFFER, ReadAt};
use crate::io::pace::{Pace, TURN_BYTES, TURN_DISCARD_BYTES, TURN_REQUESTS};

impl MetaIo {
    /// Does one turn of reads and passes each to `each` before the rest. A read longer than a turn
    /// takes several.
    pub(super) fn read_turn(
        &mut self,
        pace: &mut Pace<'_>,
        reads: &mut Peekable<impl Iterator<Item = ReadAt>>,
        each: &mut impl FnMut(usize, Result<&[u8], IoError>),
    ) -> Result<(), Error> {
        pace.begin();
        let (mut tags, mut requests, mut bytes) = (Vec::new(), Vec::new(), 0);
        // The first read is taken at any length; otherwise a long one would never be read.
        while let Some(read) = reads.next_if(|read| bytes == 0 || bytes + read.len <= TURN_BYTES) {
            // Longer than a turn, so it is alone in this one: `bytes` is 0 here.
            if read.len > TURN_BYTES {
                match self.read_in_turns(pace, &read)? {
                    Ok(buffer) => each(read.tag, Ok(&buffer)),
                    Err(error) => each(read.tag, Err(error)),
                }
                return Ok(());
            }
            bytes += read.len;
            tags.push(read.tag);
            let buffer = self.buffer(read.len)?;
            requests.push(Request::read(read.offset, buffer, 0, read.len));
            if requests.len() == TURN_REQUESTS {
                break;
            }
        }
        let done = self.run(requests)?;
        assert_eq!(done.len(), tags.len(), "each read completes once");
        for (tag, done) in tags.into_iter().zip(done) {
            match done.result {
                Ok(()) => each(tag, Ok(&done.buf.expect(READ_BUFFER))),
                Err(error) => each(tag, Err(error)),
            }
        }
        pace.rest();
        Ok(())
    }

    fn read_in_turns(
        &mut self,
        pace: &mut Pace<'_>,
        read: &ReadAt,
    ) -> Result<Result<Buffer, IoError>, Error> {
        let (mut buffer, mut at) = (self.buffer(read.len)?, 0);
        while at < read.len {
            let len = match pace.yields() {
                true => TURN_BYTES.min(read.len - at),
                false => read.len - at,
            };
            let request = Request::read(read.offset + at as u64, buffer, at, len);
            let done = self.run(vec![request])?.remove(0);
            if let Err(error) = done.result {
                return Ok(Err(error));
            }
            buffer = done.buf.expect(READ_BUFFER);
            at += len;
            pace.rest();
        }
        Ok(Ok(buffer))
    }

    /// Does one discard in as many turns as needed, each of whole `unit`s. Ends at the first one
    /// that the device fails.
    pub(super) fn discard_in_turns(
        &mut self,
        pace: &mut Pace<'_>,
        range: &Range<u64>,
        unit: u64,
    ) -> Result<Result<(), IoError>, Error> {
        pace.begin();
        let turn = TURN_DISCARD_BYTES.next_multiple_of(unit.max(1));
        let mut at = range.start;
        while at < range.end {
            let len = match pace.yields() {
                true => turn.min(range.end - at),
                false => range.end - at,
            };
            let done = self.run(vec![Request::discard(at, len)])?.remove(0);
            if let Err(error) = done.result {
                return Ok(Err(error));
            }
            at += len;
            pace.rest();
        }
        Ok(Ok(()))
    }
}
