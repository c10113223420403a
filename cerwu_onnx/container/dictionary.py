"""Deflate with a preset dictionary: the graph sections and metadata of format version 1.

Version 0.1 of tests/make_dictionary.py made the dictionary from graphs built for the purpose. It is part of the format:
files of version 1 cannot be read with another.
"""

from __future__ import annotations

import base64
import zlib

from cerwu_onnx.errors import CorruptFileError

_PACKED = (
    "c-oa(O>o;tb{0rVgjym+QkEtE$r{>g@6eV-QX1LT&X0a9d8FvaBWY&0bm4$RQ^W`aXaKaN+1jjg*{W1>*vcixIF}r<x#yD9UXoN&HQA~hQpqhj=9"
    "bDeIc(nRAD{uzTf4Sp3f-??zkdCGzV|>~U-^rX%1d1<WY?cAn6%}Z)LXEPOX~SgstYa8_5Fqs1kQrn4;nqs{bpgqb^O3^f(DHAV6eKQYeW1`Wt%a"
    "2zCay?5%2*H)CnxtS@5adUU=Q7-ett7Hi*?aV^v@10wa5&O^u-MQ9t|zg>#)Z3y0M27(F_e$5)KU)=^*twB5H~8D3za6x7@>Y+JBy8bPbma9poz*"
    "w(iO&NpfcTYaCJ>o~O!GhZ#P3^=Aw;UI7<!-fSWb$k$G;TS$$&vXM2%`m?*Jj-a>^q|+^ayDw!7^^+T>JugktZw(67D~Wa;sNU><J}87=ax?w)-A"
    "(dGtEX5J{xV6vC(uCc5{qf!F8OAm6bgs*y{tMs=DC^jH1XXLhV&+3duc2GRaB4bbL4^{T7Mp3ej~&H1Y-|tzMO&g_qla`}G39(Wt8wvy39oDX3%O"
    "e9gF^_^IwtW^^S^*LH2Q;r0TcSyX85Fq)i0&!v9rOVPBhuly`ao)WEA(yHZ=6RWpp^eVSVsbw3!ZyQZ&`whzpmY4k1p;hgjmR%u+^#l+8q-&E;<i"
    "ewtVN<VCAR}(O?bF~BWd2SYsZ5YzALn4;?Po9$TmBf96YUXlm|F8Z<8q7J?&d|{8LhzeV$}0uGqNu%5jM<`4BBNmwOfCurDNo;1$klDa;V{L;DM~"
    "R1&eNwLgIMxaFr4n>-O!yYA}Ks7)w=dlYGww1%phE-^SgtM+aNSduu;RZfWx^ao6j|9;KUL@LjNNW$!W>bHI}Q2HLZ~L)H)1_BTFn>~4OsliA%|+"
    "j^(zAYXFB%>KdtW^%Xh5v?w?H^!WiTk}e;<#wNREsRWVJ0R6a$=8q0tlln0oPE`qlPk*63VqA)gO}9qqg&x;lJ;IiJNiZ6YMn7jAaK1&QvQHb@_&"
    "qeO~yR1n^C9VZFC?W_%q|6^yK1Au}!MBT%O+SHmS*u@!jA2@uPQ|mY}YrdRp>ly-4Cj1#LY~6m=Ffovi%#EEyMOlUZxIzVhT-j`9RiIeOY~{Z90B"
    "WI4*y2Ix$g!>4KSG;!R4Fx>&SrRHIbY|jFQ`OvpIp5>g83Gtl$-0;k<aY1roV0hc#cG~LWzOf&X@4L<k^;}iJZz-8n?s(k_jye`-IUfzCf8=_MrF"
    "c#qc(Lg<$BaGixn_*#OC#ujnZ1Y&Zn)hZ9N8x~qrr(o`UX-dJz}Y%MaebAqV|l7FP)z2+OfS}(14Vp=j`Ss-L=l*E7z&#xP9BU$hm5FiGR#@zTg3"
    "ZRPZS$p13cO+exDxL(|@N0(we4GMk*u@nv%UUKkHph<kDA7+`;2^dY6g9f)l|B-&!cAs?TujFF6SVfix<OjG1hxE~8_FX(GnTzen`-J#)_ZkM|@D"
    "x@+_hRxuzM_C*rCy{!{OV2WojBd}Sm1`sik>J#6v|P`Dn_yd2CP@Y(R9SCYHj@ORPi2OT_YBjtoKqIQ%EJ(XT_0vxu#F_s4_#{wc_MRxIy%%k?F2"
    "Jf&U{>qo?B+n;e%5o@1sP>-NU#vlfvO?lJk28gAgo{OhF>~6ny?4MFxAPWqu$vSQnZog3W{J9QAw5+%UpSL(GR@L%l}Ng@E5^x))rh^D)UsA(25;"
    "0>cH-M?Grx8Q3U8mT@Q^v=Sqq5agRS?E-f{ye_8jg-GFf?hhf|H9_}l`A3V6Ltcg_Vg7pT_I_``0#r_(WNpJcrGCIuRgR1Rv<j%n1t1F33R9AlXX"
    "L=4pS$X&#YlZ48~yH4ze{e(h;r;%b|0+?6iPkLyQVPPv>c$X%n}`(n5C5RM6+X=kDHxu%=u5@*KbgF^YJA<EV-#H88e!#$1R{YnkJHOi|y09hx>>"
    "l47=Acrl$Y;U!KAB!_hNM8W>;>tDnhd$Wc=qXJ~j6KDg1$FbXRH&ctp{Ct8nL7Lmuju}2Mu!B7Z4vBU_wW)OA(I!LXi0Uwa9*!7oQdTzg0Bm|S!D"
    "gN%y%pvRL7}?Y|gYgjCmc^FiFA%RDyGK2vMKSv|ZMSvC<W2E=<=&UxIDCPskS;#X796{5`PFsgp%QGr?D^cmOM+Pz-55*-8M0U~BrgL%F0iQ7$!y"
    "C7WNtZ74MgaJ1AfLL9w{&+6b18<FiMa=)CMtMARWVQH+t3uwQ(W%b*taBTEL99+YNS+zr>3x2#&*ST7(@Tx(GXM8^pw|{>bnzyImT1Rx5eRKha`$"
    "ki)orj7I`!MN_LOM0?XDFXE60YjDv+%x#(EyS-PCdLn~4kP~a(>7F$~^fO9(rqvZ8bA}Y5cB8GJ0dOw>SZPubV`2-XE$W9DUFdEtIZ*#pTB{gvPr"
    "<u3FM7`<0OsSbJlBMYBk&)OJ`;1Jd~VN54j31P$icj(tQ?YIC{6mbvZd>VtcV0dG9+jZSiF!vl73~FQBG(H9(V-^>q@C-OPnOU1&_8-6?lC&NCwo"
    "4P6Qwu{)$hyfGH?Hew87P*d(>xuGGjFU~<}M!d108^}D1XwX<y^SPU+kV>mKGGP+g*?GA%wjX`X6<dQpx73v{QG0o%x^7}E%$n3gquksCq57)e`H"
    "xM{2lGJ=%E<b_gRk{5A53ya||A6~{i~FY@Epjy0GMvgQvHK?OUWeTmE7!>cMit0;4ww?ys7NX|_~IpI)Dkppc6-4kpAz{-&Oqp)UO=Xl+%Kor0&*"
    "uBE`eb{GTZXpZV1J0g{b=(q&i5=0fa0use<btmmxD-O^?U%l`<yF^5b%wL0fnR5AC@43zVm?VFEwqJrjQO0tf#$=lL%!>YexJPmONZsFsslO(QUX"
    "#x}Z5(<rZ0pH!<gcm()p`{k9z`r~LH#s_Fw(*T~~*8p5u&dej`pQ}EpJ*k#|qK~fp!)OB9k4du!Fdsbt&W}*`q1y)ttl)ghRw4GOvTolEA~QaM+Q"
    "Y}`D~25{SZgX9ZDFuen9<Yd0YXFc01-lY@Y)O`i+ItpdY%jFWMx5U_z1;SApO#V`WtYoYDi-2z}tj4W0ULA)EKUp<ArE^n2*G&15jh^8Oj%R#Vc0"
    "-s1&c<^VsuIzZtIqtT(c>kW79E0E-e8(@gR}5MG(#oKgnqxrzYOgs?)u26A6sAr`yfgkuI^NcX~mEJ({4u#FA|y`l`RSc@H<W4RW);GW(0$^E%_z"
    "%9yvJ6ssu(U^c!u^^j$;ki9XNaU`(I1K&34ywI4vMkH}cd2o9iOP#kLjLXE$8eH={_eX^@Icd{g+fxQjFME~&Ws|DK@(&oi~JcD917=ct2Y@5n);"
    "~D$E5d9LKOegnaE&|u+1c)=g_PaHEfgdqadn6L<P$}QkD&pDl6}l=?pAzDW<mJBim|4_nJK#uuV!~kXO<g6l)St<5ZcXY8==uaUjfMV!Q~G@L)n-"
    ">_MA}4#pzxm*`qSD`(_>k0<3s7JG3knkMjeO~L~3TqxayZ}Q_GTQ-%jj~^1l@8B|k)Z&I#mit}TQ-$nKK}+Oz+<uOi199##8v}jTA1XpJUCbs25{"
    "qsmitXrriZNeAumF&np#TKe_=z%cQwebz_V=LT=pt%B3N=`X&g{Uk`$7!0BM{nOY=tnE!Iak`OHr1C#V*%bYD~}9mSkp4J$tI!xM=?J_U?`@4Y+c"
    "Rjc2f_yQ7Oc{HYv8b5&ZmQ*3nD4`>gDQ;A_@Q4M+gS{<&j;h(D1$hv-&2@Wsr=xI5;i&$`-;kBLBq2KaPWnRxPK~eWRbIFqScH*-#i)IPBLGoH;p"
    "5aN<`T9;_C^;X>ZlMB(t{lnoYge_1!;6u+aynW0*XiweId`=+`kuPGNV0GzmhC!IfA#kdpF*4k6Xq2n*!eQIYp}Cat;8eBGV>VT9a7^Dq%mwWG0#"
    "ucpGwS$y<H>_QR11hT97^;R}&S_jLXYQA&f_73`ve5ZON{#v{hKw?FQ}{0B39wk+lAHq*)<3?6y%)yeoP;vYsJBg=_lA%HNey7+B6=>j>{>h@rYV"
    "q#h5C66+embE1mD;+tz3Lba;pY(=fG*nw2m00`7azzfJcLSU~w*3W#ZXgUr-`t}vkib{h*GywBT%tDg2c&M$*Q2PK~U}rAr8sp+~RSCWKm5eU}7M"
    "AjcZM)~#P-AK4cd)0J4K4mQHuOAxh>ASKte%EL%p?yXFGZT33Nk@I%Stk>Eizb_u2pNl!4&UBrkJjMRO7aIvP4E%q0_KTzx0rNPtTS<Amb&%Uq50"
    "KffP#<zNkMMHg!&e&dGC<58s_Ox`uxi*>rP_6j>?Wu}r|&_^vIWrN^WKh1i4NXz*itcIE$e5BK*g(`3}NJj%O(*|zJQ1L6Y+xGTyqk?Dq@W?Qc1V"
    "c9P;j`O~`UuF7tRDQXp6+Rf)74fdF1OtAAYyW8x#94eF=Re3C@Ts~owJ5TC`sLx5P`r;xHDJ5wEsJ9}$t3UFG@2C7MjIaWX)tr}zHR<J9YN11Nl!"
    "#cn)Ox4iYRcE^-J8ZWKVPV=y-3SNaVw~ZQhi&na405MSFCllHy1*k3Su(!H03KGm`5#@>CJvtkMSM0WFUHUU2?Td0AXfzGgc4J{e|4T)Io{fSKJO"
    "+0rmGU_wf|v|W<Yzu&w=M!3!80YCqFmbBwt3G7#4STHS{Wg?%ypd2T|tkKB(y_018jCu~W`McfKVI;|kev4>w<w@2LJj<k<L*$CA<~qH)MUrVsWj"
    "e%wn93BU(<+6ws<mJXZA$Euduh8(!-kR%yJ=)Y=|m_Q;7T{`7P;oQZm)4}1)T=P{zd~+1iys`VPj%ZHn^|>tuTops;kI>su1Di1E`()rsbAq2;jC"
    "-DY~?ju3@0~3Er090uS*^lcWeVIhE!f3mPSGke`*|_`JCly@5NjPP?vUCJT=Of9sLBL4JqD=nmyQ7L<GB8w{vIm&DK*8{+#$rQt9Bvhr!XcRs|5-"
    "h5aL@Vpo^5zIE^PTYU;(tp6@g(oTn8LJLcwdYFStX9AN`gKm)?$5O!OF7rxP|rA}Xc}nkEo#}U$s4v*TW;UMW@^jsn-u%B-13up!`Embym|UOY&#"
    "EVeuut#kBmTFfBFIB01r$Q-*g2Q+;D+FuqhFeE@}I4`~Q_?*E<ew`ah{s+)FWW#nqL(^;qU(E~m6D@O3uhahvG!dpoer|EAZKZGKn&8!`Uih8M{b"
    "{d}YerOjn&g5+R$ln<wL!p=DX0{rdCjErNFMw)x`hKyTRrr7c#EdRwc>4Ffg0mWb`{Kim(v9F?OxHi4(;;XWLcdFfPvo|`|NG|XU%aN}inTdca2="
    "FUS4Mt$|#U+sA&nCitj*_m5B3%t({mBy+%e(1E^`$feU7`Eo>wtK?WG^})wdw<{kUM{2Zq*BI{q4sCOkMG1zN4&#Cpr72ST#Esmd224)chFKE@FL"
    "z)M7oF9$eN`SmAZ$`$UV?or0u$D`VzElI3WvR=Q1Yf*o8ZdTFHZoHZJ70{v_8lWyK6S@F%U(ly9|S}7kR6h?RD%NY8~f8<GTKu#>h64s!sn7ozjY"
    "F53}H2<53sXWRKxNW9Zk-Y|ls6pZ+1xQ$x#{Ui!Km>cm0A<R(LaGhO=lQ64C48X{#5d%7ah{45LyQb(%Vsb-ZaDP;wOUTpYW$7pmBbwjKZ_znUg@"
    "(cDTqJk$OwDkxX!O|z&ChU$exp7X_`PTFBN6zO2f|_{tO6DvFKLRGb=wlsgrT`BC^4<m|rTBIUv2As5X#oTK`Xt{nrGLfN8=HK|+$4Z!oG4uj~U1"
    "%;4*a(j1uu+M8EsHTb!WKg}{3X5T{ts5lLzlL^u={Sc_ZKSQK~DT{_ea8|0EH;FF4=n1Yi4ph3JB4KUw@yT7O$m;~45+n#t63GR6wB1uH@IyUvET"
    "m+^&65ukdX#4fZzU3IMyhY%wG{MGCKT6N;&N4?gt7*wXhdM!Cl92K?vPtRG_4{vRie9!q6UCEE?5rExpi`1YU>uc0d!MwfGDM#4OJ!sT}T#+Sp0v"
    "^{mrW"
)
DICTIONARY = zlib.decompress(base64.b85decode(_PACKED))
"""Bytes to which a deflate stream may refer as if they stood before the content."""


def deflate(content: bytes, level: int = 9) -> bytes:
    """The content as a raw deflate stream (RFC 1951) that continues the dictionary; level 0 does not compress it."""
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return deflater.compress(content) + deflater.flush()


def inflate(payload: bytes, limit: int) -> bytes:
    """The content of a stream made by :func:`deflate`.

    Raises:
        CorruptFileError: the stream is damaged, does not end with the payload, or holds more than ``limit`` bytes.
    """
    inflater = zlib.decompressobj(-15, DICTIONARY)
    try:
        content = inflater.decompress(payload, limit + 1)
    except zlib.error as error:
        raise CorruptFileError(f"{error}") from None
    if len(content) > limit:
        raise CorruptFileError(f"the deflate stream holds more than {limit} bytes")
    if not inflater.eof or inflater.unused_data:
        raise CorruptFileError("the deflate stream does not end with the section")
    return content


__all__ = ["DICTIONARY", "deflate", "inflate"]
