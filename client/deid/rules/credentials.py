"""Letters behind a name: "Ann Lee, M.D.", "N. Ames RN". They tell that somebody's name stands in front, and are no part of it."""

import re

BEHIND_NAME = re.compile(
    r"(?<=[\w.)’'])(?:,[ ]{0,2}|[ ]{1,2})(?:M\.?D|D\.?O|R\.?N|N\.?P|P\.?A(?:-C)?|Ph\.?D|DPM|DDS|DMD|LCSW|LICSW|LPN|CNP|FNP|ARNP|APRN|PharmD|DPT|PT|OTR|FACS|FACP|FRCP|FRCS|MRCP|MBBS|MBChB|CRNA|CNM|"
    r"BSN|MSN|RPh|RD|CMA|EMT|MPH|CPhT|LVN|RRT|SLP|COTA|OTR/L|LMFT|LMHC|LPC|MSW|PsyD|AuD|OD|DVM|DNP|ACNP|PNP|RDN|CDCES|BCBA|FRACP|FRACGP|FRCA|FRCPath|FRCR|MRCGP|MRCS|FAAP|FACOG|FACC)\b"
)
"""After a name, with what separates it."""

LETTERED = re.compile(r"(?:M\.\s?[DA]|D\.\s?[OC]|R\.\s?N|N\.\s?P|P\.\s?A|Ph\.\s?D)\b")
"""Credentials that begin like an initial."""

ALONE = re.compile(r"(?:M\.?D|D\.?O|R\.?N|N\.?P|P\.?A|Ph\.?D)\.?")

AT_END = re.compile(r"[ ,]{1,3}(M\.?D|D\.?O|M\.D\.?|D\.O\.?|R\.N\.?|Ph\.?D\.?|N\.P\.?|P\.A\.?|[A-Z]{2,6})\Z")
"""The last thing inside what was taken for a name; any two to six capitals may be one."""
