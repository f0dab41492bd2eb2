//! The subcloud agent service.
