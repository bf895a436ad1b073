"""The attacks, family by family."""

from . import archives, iso, polyglots, qcow, qcow1, vdi, vhd, vhdx, vmdk, wrappers

FAMILIES = [
    family.attacks
    for family in (qcow, qcow1, vmdk, vhd, vhdx, vdi, iso, archives, wrappers, polyglots)
]
