"""The daemon behind the dhcp plugin: acquires, keeps, renews and releases leases."""
