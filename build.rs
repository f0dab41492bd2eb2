//! Compiles the protobuf contract without an installed `protoc`.
//! Run by `services/api`, whose `Cargo.toml` says `build = "../../build.rs"`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use prost::Message as _;
use prost_build::{Service, ServiceGenerator};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rustc-env=TANDEM_COMMIT={}", commit());
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();

    let descriptors = protox::compile(&files, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new()
        .btree_map(["."])
        .extern_path(
            ".tandem.site.v1.ListAddressPoolsResponse",
            "crate::pages::ListAddressPoolsResponse",
        )
        .service_generator(Box::new(Services::default()))
        .compile_fds(descriptors)?;
    Ok(())
}

/// Generates services with codecs of `services/api/src/codec.rs`: the link's has small buffers.
struct Services {
    usual: Box<dyn ServiceGenerator>,
    link: Box<dyn ServiceGenerator>,
}

impl Default for Services {
    fn default() -> Self {
        let with = |codec: &str| {
            let builder = tonic_prost_build::configure().codec_path(codec);
            builder.service_generator()
        };
        Self {
            usual: with("crate::codec::UsualCodec"),
            link: with("crate::codec::LinkCodec"),
        }
    }
}

impl ServiceGenerator for Services {
    fn generate(&mut self, service: Service, text: &mut String) {
        match service.name.as_str() {
            "LinkService" => self.link.generate(service, text),
            _ => self.usual.generate(service, text),
        }
    }

    fn finalize(&mut self, text: &mut String) {
        self.usual.finalize(text);
        self.link.finalize(text);
    }
}

/// The short hash of the checked-out commit; a build from an archive has none.
fn commit() -> String {
    println!("cargo::rerun-if-changed=../../.git/HEAD");
    println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
    let asked = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    let hash = asked.ok().filter(|answer| answer.status.success());
    let hash = hash.and_then(|answer| String::from_utf8(answer.stdout).ok());
    hash.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Every `.proto` file below `folder`, so that a new file needs no change here.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            files.push(path);
        }
    }
    Ok(())
}
