//! The pure model of the fleet: admission, enrollment, link machines.
