"""The exchange called `masked`: five phases after which the coordinator holds the sum of the updates and of none of them.

Reading order: `messages.py` the bytes · `bindings.py` what everything is bound to · `site.py` the hospital's side · `coordinator.py` the other.

    phase      the coordinator sends                          a site answers
    advertise  —                                              two fresh X25519 keys, its ledger's head; signed
    share      everybody's keys                               a sealed share of its two secrets for each site; signed
    update     the shares sealed for this site                its words + self mask ± pair masks; signed
    survivors  whose words arrived                            its signature on that list, one list an attempt
    unmask     t signatures on one list                       of each site one share: of the self mask if its words arrived, else of the mask key

Source: Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning", the variant for active adversaries
(§6), with t = ⌊2n/3⌋ + 1, signatures on every message, commitments to every share, and one survivor list an update across attempts.

Protects against: a coordinator that reads, swaps, replays or withholds any message, together with fewer than n/3 of the sites; sites
that vanish at any phase while t are left; a site with wrong shares, which is found out by name.
Does not protect against: n/3 sites or more in league with the coordinator; what the sum itself says about a site (its noise is for that);
poisoned updates; a coordinator that refuses to go on.
"""
