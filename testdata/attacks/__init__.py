"""The attacks, family by family."""

from . import archives, iso, polyglots, qcow, vdi, vhd, vhdx, vmdk, wrappers

FAMILIES = [
    family.attacks
    for family in (qcow, vmdk, vhd, vhdx, vdi, iso, archives, wrappers, polyglots)
]
