//! Takes a packet's body apart.

use super::Malformed;
use bytes::{Buf, Bytes};

pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<Bytes, Malformed> {
        if self.0.len() < count {
            return Err(Malformed(format!(
                "{what} needs {count} bytes, {} are left",
                self.0.len()
            )));
        }
        Ok(self.0.split_to(count))
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, Malformed> {
        Ok(self.take(1, what)?.get_u8())
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, Malformed> {
        Ok(self.take(2, what)?.get_u16())
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, Malformed> {
        Ok(self.take(4, what)?.get_u32())
    }

    pub(super) fn varint(&mut self, what: &str) -> Result<usize, Malformed> {
        let mut number = 0;
        for at in 0..4 {
            let byte = self.u8(what)?;
            number |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed(format!("{what} is longer than four bytes")))
    }

    pub(super) fn data(&mut self, what: &str) -> Result<Bytes, Malformed> {
        let length = usize::from(self.u16(what)?);
        self.take(length, what)
    }

    pub(super) fn text(&mut self, what: &str) -> Result<String, Malformed> {
        String::from_utf8(self.data(what)?.to_vec()).map_err(|_| Malformed(format!("{what} is not UTF-8")))
    }
}
