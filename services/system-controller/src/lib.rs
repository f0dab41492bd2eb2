//! The system controller service.
