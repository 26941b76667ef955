//! What a release says of itself: which crates are in its programs, which packages in its image.
//!
//! Programs carry the list of their crates in the section `.dep-v0`, in the format of `cargo auditable`, which `cargo audit bin`, Trivy,
//! Syft and Grype read. A release is compiled by `cargo auditable`. An image that is made of programs at hand gets the same
//! list from here ([`crates`]): they would have to be compiled anew. The software bill of materials ([`sbom`]) is made of
//! what the programs themselves carry, and of the packages that the base of the image has ([`debian`]).

pub mod crates;
pub mod debian;
pub mod sbom;
