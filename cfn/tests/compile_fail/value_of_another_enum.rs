//! One property's value where another's belongs.

use cfn::resources::kinesis::stream::{EncryptionType, StreamModeDetails};

fn mistake() -> StreamModeDetails {
    StreamModeDetails::new(EncryptionType::Kms)
}

fn main() {}
