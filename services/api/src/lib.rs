//! Generated messages and the only wire to domain conversions.
