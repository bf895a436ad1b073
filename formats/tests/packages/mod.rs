//! Packages of virtual machines, made by hand.

#![allow(dead_code, reason = "each battery takes what it needs of this")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt::Write as _;

use formats::{Algorithm, Hasher};

/// A tar archive that grows, whatever is in it.
#[derive(Clone, Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> &mut Tar {
        self.member(name.as_bytes(), b'0', content)
    }

    /// The members of another one.
    pub(crate) fn add(&mut self, other: &Tar) -> &mut Tar {
        self.0.extend_from_slice(&other.0);
        self
    }

    pub(crate) fn member(&mut self, name: &[u8], kind: u8, content: &[u8]) -> &mut Tar {
        let mut size = [0; 12];
        size[..11].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        self.sized(name, kind, size, content)
    }

    /// A member that says that it has some size.
    pub(crate) fn sized(
        &mut self,
        name: &[u8],
        kind: u8,
        size: [u8; 12],
        content: &[u8],
    ) -> &mut Tar {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..136].copy_from_slice(&size);
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.push(block, content)
    }

    /// A sparse one of GNU: stretches, its size, and the bytes of the stretches.
    pub(crate) fn sparse(
        &mut self,
        name: &[u8],
        list: &[(u64, u64)],
        size: u64,
        content: &[u8],
    ) -> &mut Tar {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        block[156] = b'S';
        block[257..265].copy_from_slice(b"ustar  \0");
        for (index, (offset, len)) in list.iter().enumerate() {
            let at = 386 + 24 * index;
            block[at..at + 11].copy_from_slice(format!("{offset:011o}").as_bytes());
            block[at + 12..at + 23].copy_from_slice(format!("{len:011o}").as_bytes());
        }
        block[483] = 0x80;
        block[487..495].copy_from_slice(&size.to_be_bytes());
        self.push(block, content)
    }

    fn push(&mut self, mut block: [u8; 512], content: &[u8]) -> &mut Tar {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&block);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of it, with the zeros that end it.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize((bytes.len() + 1024).next_multiple_of(10240), 0);
        bytes
    }
}

/// A file, its size if it is said, its capacity, the units of that.
pub(crate) type Disk<'a> = (&'a str, Option<u64>, &'a str, &'a str);

/// A descriptor of one machine with these disks.
pub(crate) fn descriptor(disks: &[Disk]) -> String {
    let (mut files, mut list, mut items) = (String::new(), String::new(), String::new());
    for (index, (href, size, capacity, units)) in disks.iter().enumerate() {
        let size = size.map(|size| format!(" o:size='{size}'")).unwrap_or_default();
        let _ = write!(files, "<File o:id='file{index}' o:href='{href}'{size}/>");
        let _ = write!(
            list,
            "<Disk o:diskId='disk{index}' o:fileRef='file{index}' o:capacity='{capacity}' \
             o:capacityAllocationUnits='{units}' o:format='http://example.com/raw'/>"
        );
        let _ = write!(
            items,
            "<Item><InstanceID>{}</InstanceID><ResourceType>17</ResourceType>\
             <HostResource>ovf:/disk/disk{index}</HostResource><Parent>1</Parent>\
             <AddressOnParent>{index}</AddressOnParent></Item>",
            index + 10
        );
    }
    format!(
        "<?xml version=\"1.0\"?><Envelope xmlns='http://schemas.dmtf.org/ovf/envelope/1' \
         xmlns:o='http://schemas.dmtf.org/ovf/envelope/1' xmlns:b='b' o:version='1.0'>\
         <References>{files}</References><DiskSection><Info>disks</Info>{list}</DiskSection>\
         <VirtualSystem o:id='vm'><Info>it</Info><Name>vm</Name><VirtualHardwareSection>\
         <Item><InstanceID>1</InstanceID><ResourceType>6</ResourceType></Item>{items}\
         </VirtualHardwareSection></VirtualSystem></Envelope>"
    )
}

/// A line of a manifest.
pub(crate) fn digest_line(algorithm: &str, name: &str, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(Algorithm::named(algorithm).unwrap());
    hasher.update(bytes);
    format!("{algorithm}({name})= {}\n", hasher.finish().hex())
}
