"""The primer: texts from which the model of packed sections has learnt before it reads the first byte of one.

``python -m tests.make_primer`` makes it from graphs built for the purpose. It is part of the format: with another
primer, files written with this one cannot be read.
"""

from __future__ import annotations

import base64
import zlib

# Rewritten by tests/make_primer.py from here
_PACKED = (
    "c-rkfOK=;>bp-eU*!+PYDN%nev@5N!5($9RkN%02NLeyPX-TcuW>Pg7U>d}%1~bsiK&0eyvXz6KRB~|nlAMywHOVnmu1clilT%5R<CIUyF;%(v=1"
    "Pu9Rg(9*duDnDgP%lcWqY|x5#9az_3Q4}@4bHgx^X6%POtuOD1SGd$fVY<FKM)5Y1Cda)aTT877I%i+j1O5bzO7GYPw3pwmw<9ZJCa%nyvyl4ah9"
    "qPbUWWPyQZ5baRQC5+c9@7^vy$mbv6mqq_98N$uwWqGBAXb%v_6R0l-HQkAN1)25F90g1EBXG=TOsi_SbkK-MNW7;y!!_`$EvQU&j&NGl14)T%d0"
    "BQ6E0+l47V+?5InQB0Rl)u38GZpNJ0)4SvM^Q>L#90P0$swqzVR^A#xq3*kTy8nX%Co$@Y8jehHC%vMmSD~>m<f{}D7=SCX(cG$n<vA%2_uu8A`|"
    "IEc9f*D!)4X2)XFEw2p_bTqV*v%keSXV$8n5Hno?LiPzph!tQ4{gPBAUJ?v+QgVxfwyS*3A9H>qliR{R9iKh`K&i#2LAfQu@ET^5UlNzC@xXOR<D"
    "P!6cRUvo1IKcX)v`)a+ePDvSM>Z-@3wB0mK-P~8|R5iymYC05Pbk!l%N>SiT<44R(eq2nh7ZV>Rb`tAj6^mA@dPN7W9@R~k+7;SxhcI_yhbn^ADv"
    "mq4rYUQh2A{}Xs@$dZI(!^|pehek_d(OZ1fMflAC6@YI~CQS<OQ`YrC|Z$3@1W)+Jv6!FQ_&yG8o{rNCfaFKha&KuIi?;bO*bm6qcS)+oZ;7f$#;"
    "V6jux9ys_H^j)ML#xptFk`ZL9*6}<tVk5pT&Q|Q*!sYgcBSuQ9K#p;?*UUDcb5}-ykmN-Ws;%B8huohMAo2sp=WrIEhH2GG@br?t(kB*>h9+ct|A"
    "EFk}4`M*up}i)-8jf3Ef{wX53L>iARt=GPP}2>n7?#x#gSENqsxGZIjVL%5Mga$_hW<jua-d<e=}>JQi?*TUo6D<(kB$OOOP}s_#;O4$)(&(S7BS"
    ">O2Im$>sbUjK*?iC$lS3Q82GFX9DVo8Sg^%rT20@v8FGa4CL@}Ev<VN=N#sjsHKSi<?Lv<WOEmOl$fJv{dIJX9FB|b}}R*9-FqU>F)8{{iq#a-lW"
    "JD&mZRINJH{R+yl&k`f~DZ&>BWPJKH$Ou)x4An{E1H>@5X4~rXO|B|74qaQVxRxD)z9JeU+hY8o!3i>ivyn?~l|D-hhQOZ+@XQvIPPef`dR2!?Cr"
    "BpJJ+E{5EE%ge4Odqfz&zw7^QXyV!-7=^G?`8nTTAUe+<g3C?OV|%4c;WSdhD@H=?1WR9R^=&J4eP$m?}rX33Kj~^_{it+h13<Ha@&Rw6(Fe`B@?"
    "j^hFyS+J3mb5pC@~k|>GM8)GcUSKsPH#i}pXbu<L5s!IyNARpU(qBpis!Eehf9IcTHYNR(+$GuC9W+xb2%5gB~1DMedn|kF*Hz3vvluS{eFL5CLK"
    "LcI!%oE_bQL|ZBYOv;<`Ei)AXypyjLb7-*cYLE>rdsO|<floBHXPls%(<Wb-5-DOSt1cZlTS7hz5c#}0$-md;dV2L^+_U4dnWN>Dos{@d6tX|1|M"
    "3hSdNr(bW=)!&InSsEvFWwc6C!q-G<4L$}n|Yq^2I%z<#TN=Aqh72<(9l2q%3hP_uRO37Hb<)Yny8tE-1(LSzizbMBc{Ik~NF2jJV5xd&=dCh!F%"
    "Ga*iMcWXM#>12>O_$|w3C`CH?&<+)^nOZ3Qz|ulE@2YMMxZzGH^R`uQK$jhIGRU0Tq0hj^rn^i*RVbO2SoeW?_>tMLEF;v`9qN*7kWOtpr(61yaL"
    "sklUslsFbaEhbdE|e#%0CpM3|0t8s!>fh81p)}5?p$Xli_{aYBspsnj_;}H*y>E*5Iu{1ezv84Ol8zN7N(vb`4{z6QWfvUC8O^QXE5a?twwIPi=B"
    "GS~|h2dFAJQ3CV>1o#&<soc^IOm3Tws5=krv7$(D|`7tu29_r3KsFx)9z;BO<`aAS#2jEK~;G@HP!P7K5s;OCZE?97$aY8ird4sYEA$!5Ble@OA?"
    "W*;LLG!a@0_4!X2`U<9%jQV)Gh_%=L@r&{xp@uZKR-{#VeT|$|6<`Vnvo8aFl`qQoZhkYHN=U?#V)JHOo{mvM?Nlc4|L6~@yt0g=^#aj-A2ZmPh$"
    "3QGT}5-w8yvwI|rKls~{iAC9zVtU79~hhGDnWr1?qQ+}uz9qu9-SmKY*u!l08LD9B1I{*pK0B{7oIAPQhb?KT^16{3JX4oaJ%+0LzIrEDGY(Z3Sv"
    "`6yT-pc-I3L)S-bsx>RPL~>vzm=p&p9|E5e;2Q?519r!sST<ox!Guk6G2z3_3b_CCeprPrLz0k&<gVXaCh8trjc>#wh0#hGs=ZGgm#^yyG6MS!mu"
    "j5Ii{Uosy*9_OMIyDBXQS+OXyl<uzizp0I?@rT+>PmA(nfAK>$}Z5IpvA>$F^=XaSgyUQkzp-lqlHHO@PmzC23q<Y?`LZHC?-0u6?3i`6_(;1ZV6"
    "@xQYW+PD)kA)N<u=1>n`PhT!)^^MhME+h~5OMx&<A9skkKZvfN6U=HDq5}5eb*Ss{CFLT^HP2l`Hu*~O&kyy_zp4w`Jt%dlBN|Qu`tr_AC$%zNBO"
    "JzF&&=+A8Q;341;hAJ|nQVp_GkX^Wd0QLhuYYp!I+8n02pT_3>O1ob*!Hy$p1FH$3Zt#JqGI*1#`qoFeLS{y8)}83byYU3$`dvyNzRU3Fb&?`xr5"
    "{FNxyMc;jzW4x7H&UCH4AI!{M?oE0Cp7!U2aPLMA2$ycvg$IiSdw$k~cz*&zC0{}Wiod<(`<goP+d%V~jp#229C4-;|7m%1V+HPxsp4gHWBh#6#J"
    "rCHW13UewbjGcar^N|rv4zpq*vPIv7$gaY!mC^D?FH4K+Jg>u6-{uXpr6p!;J5ck(M2K%DP^&-2)?q6`U&7i*-by0SaWW}1jZj>`@B^|LGQj`CtP"
    "Dvx&@0#%iP}s6v%%SFJObOQT_eH5d+1eIv-cn9?H1}3Nk5^qq3Ly@Z0E_eLk(JS71*h{up`u{&@Lf_>fx&+^khnU2XzzODsq(2XBlNGgfbCVvD9n"
    "DuX<8URJ8U%>TVo1daZxc+jsN&k8DeO$)=&*T@c$g?X~_5QGb-z_h+>Kn%>lPuc?Mr-;SsHHq&WPezykt{7FRq_FxWOV2aw)A%l-pEwBbXmntq<+"
    "!be&H&!@^zuawFMb5+JenMJgXzh!?*zZ2Jv%hY?FTXvX`!*iG{A`GrVseuAs`(-rqlQD3GDyoxt#poLyp?)SLm!3vygY_EBV-6L0s{<#kRJnU()6"
    "mF!A)by->_<0v;z6vkZ>N_vaCk_6EIyY?RiPT9rQ9uUMYFi_n>;gtKL2lYNdSw+kb)WCqG!`+wzKP<{ydHH?Z{*w7%TE^^R@ikC7>~WnhzGDr|bh"
    "f;_?7USVp<+k9`-8}4&nBn)(~1PmT(yJSw<Y<Wd%E;$oqXJG+?^}lIbb$?5L%J&uBfV~0ig<LR%MB!`p{H!IulY{-0UbeYiyPCr-OYU;6%KR?5)t"
    "i@dhFULcYHqc#SSS=BNuL4d<yMzVmvdkc)GUC?Sq=B;6<dRf%qI*v@DaVhb%4xO;Rn(#`h+oE$bGj>vpzywyJEX0<nVtHKm4gs`=EJ+9oH0cQ52f"
    "$suJa;Fy)112|L3h5nCvhmRGJ`yME&)*!3E%%EYVigT#X=;MKf>Zn1^JVsR0A^7Ene=;}X=M!a8Ro*>=TrNnK^2^>*7R@2mESD0?dUZ{Pk-nQii3"
    "w+nAx(*h%Ecu|qT3Kpn6U{9N8Ql*OpqPUM=w~TmSD710XyJ<9uq_yH<~j340(z@tU(;Qif(2=Z)`-Y^Xm5ZTHpsD{XbkIn`I#VpnCFBXXfTYSw0a"
    "n-@rbzyWr#=CK`6c3EQj4>`ZLe_<{|kQHrurKZRiY_pZ<KR=00VvDn5R&4fS_|Vy8#m_2w77(ja`s)CLUep$?`t%?&|&HPo@wo*jX{%-sWYcZO!a"
    "VKf~d)ffZP_v@Cf1r7eyU*?&=q>I*H2p3O##lxA=`w7;`xsY9ux?@`nkSOGw#~EnZ0ZDbRbwX~8oY#jfsy=y+vl9?U{`LHqk+@DU|NPUReg$EU`|"
    "AU2+WaU<y4L(CHV{`p+7*nnD@e5~V4dhPddv?o;8!;EMz<PWif4ksPF^i>lyBbPn8}TU!SN^afdtvbjZf!=F(56Bvyy*?yRgE(%d_6R`+*d^96b}"
    "b1A}(2O6|6tw=SM9nWR3PWPM--S+){dAH%zbUI~OiYB#QX9mg>#p`Vlta&&`tq0HN2VAUK+7P;GNg}cd^*%6)wZ=*ZqVSHF+0}gUYASQq~ksI>px"
    "!kV8j8`Frl&mJa)lu}g05ppV%5Eyi8hWf7)br!;p+n23jcc$N?s?8@?^rqsJ<r7LcNVzkF^oMVqF|Po^_to=Sm05(^rA$*7`=Gf&b9)E5S@q|bVz"
    "*Cp{N(p<Le&Wi}?y+H1MFHzk}L!?(gHrE*+r&hWkKrtx!_}3O97!V6Z*b+CnSLM1Th&Wa~l1!^Gyj+nR^|KGiU+13Zx6EG?gL`NAcHPprr`kgrSP"
    "^&wMc15{zcuKh}j#6D1DC40l0t~Vt!OJB&$w?SsIE%D%$;>s6N^R1Gao`WNK<GO6UiNIGL+8Qk8{4C2K!hlwPsr{apiw2Pto;t^JhaHzToM1_N*@"
    "&VLELS<Z$g+P=hDOw-RwS6cd_O(tWpAN(b)9)D`}eU%fAUw-L#zWh$oCg~b{EB`BY*Q}aT&sxA$T!Zj(!j2^3wgxK(yTNla2#3(9%`iDYlL-W-kZ"
    "B`0{&%iGN9FD26rR@ya5P7#syoRaoW;=2%%|pB2}7LQO}&Od33DN+icHkj|^lKI6gYm;^D(K4b1B5iP#xg`F>AkT{DvU(`(&bS^>{FZKY581o(Ay"
    "f}72#{0d1BF=Lyfczk^C=i`#Ti&U5sY~q=tKC|PL+Z7Bs!eJ8nx&34d7GUE=4r1Z_@r0BXFbn}4ESCPVBKge?&Ddf1a&?Zs@dp{NwW@28LE~4*dk"
    "L{QsVeR3mgl<^lw45R7jK6pA*z#pu(0VV^d_6<Sf|`TGPVeXqf)(@X>!vcw+pqV|+jWh<>N01Yt+hQv8Gn;+m8+FA~sIH!(zA^mBs8F+g)yyEOM6"
    "^XT*QikELs*aN)1qTF5=(<5q^GP5pOyb+?0>ssMXi?^Kkz+RJE?rn%}hUv?D^qox)f;l)JRcEqc{H|n>x3?m)(s50@N#MOM75t1I`J}zi)C;ld0n"
    "ubIbS!-oyE`@~zSsV-YSz3cWo9NV-$b(Ob&Q{4VHN8<aG{g$PS_E6i)i`&f~Ubf1Hdz0JbR^Qci;*c<x)u3oa{yNUOJV1hm2<lzg~c0AY?i_<%n}"
    "9#h~WCTid%yCIfL)SDhz)Rb{H5Nrk>zEw7Pj7Q#@|H4P9rc>f@KndHF^xzM#X8BBjVQqGeJjEtqWxbT%dL5@T9nMienWd_ac-;Z7>Q`=qitr{>{E"
    "L&6LG!w#?qhL}mTY&RXU|62)3PmgELKM^&$pYYPdjQnL1zs$x6woOC>@nrI$gb20e2cwTK>U|`0e?a{a8J0|a_fn9K8K6!9uKQ<t+xu%AzbOVTKk"
    "T(>s)oJ>A;&3VHaY7Tj;;s2`ox=zBgdRn;u#H<-`$L2$2{Z3@hw4o<&BD2XB2SM?ANCg_iqh3HulvxIVR6gufT@#LfppCyq^{WrTWAI%{EiN*+BI"
    "P|Dw5h^pQ3h<NW^{q}4qUHcWGI54%Yy}YS~v&fB(<-)IzsnrAD2}`Tg53lw)uAxwYKG)r3Fsp+vVLkUe0LA4uY3^OU(Z9L(h5dFU_S@Kcazb3--`"
    "-Y=g+eG*45dn=)rwH9Dfq<nW@`0+277YgZt-nSNw}W}L=+lhGeDm|j#0}t<u^c5Rm(n5ZM-9ppCM!3cwl_`r-?q#YvPVY1TiZTG1p$6n2sw%mQvl"
    "0yY6tZuJfq2qF5BsXc*~U1W)(BYWCju9GK_G8DNhSzL%1aY}#Wil1#r}KI1zyXUH^wP6VLIG+{h6`8|(^?(Tdf@eofHL#cQk`teXtJY;s@AwZu$B"
    "Tw5zS@#pF(Qfj9b!Nnq2xSTrO%<Cul;7TYRW36-aM|l1_cxvo|1>$td2MU=@dISUaIzRq#<SwjdSk_=@Y+aoyTUcAcS{UgdD}SBZso}9KGm;@<k!"
    "TNrPs%muYogvE19uPQ*fK2*A$~5XVfrb5;NGF4|+JsO6Q~XVT{=o=lLieuV4gU-&p*Z|JmVx)`7$SsW*ka+(p>F4!ykGMPh!Te&d+yledVu{;fCW"
    "TJ24Iz78I{-h&K$lYI88CCL73FylGY3f|dtkbxXEBc3_K7p0yFkm*n!)3oW;zetg4_^J$hEFlxRzSw$saVB!Fa2P=*#N{b*$#62boyeRa{??O)yY"
    "G7}@jyLfR~4bj3e^pE&63{<Y$YPvY*KDkT#A&MWn6v~-5ZqK5%<B~lI~TcD-AEzw?yYgKF_|*iH0Wb8dg~~M04b}bW=%kvbNkQJw;|s%W5bGx?58"
    "y-hX1x&joK#@U_3}-Fd{j^--T}?1~Nr0ksCTP&s;K?;Q{+O-;A5^W+$;=d8S*6X*l@F0Of}0v4MSx8~2YHJ|;D;hErFK!4d!hw^YupY(Hze4z)x^"
    "KnI3r=`FPyExWbz@$sXf1k+*oet$8lrZ#>DV37H4G_s<IJt~Ij8W2vS*!iuq!vJ(FHDP<T>Q6m#4VH-Z(ZLcW#UL0<`Qx`kdU5~Y$Yk?2F*$@_hl"
    "qqHNY<HO!^U#yelWX$3pmWS_2zG-KT6xz4?I;i<Gxx;{6l$qnr4)ZwSR)-hZ|GH`!3+GQZLDc?@f^cvE&|f5&58iQQrp#ypv>SWOde{#T5qM)CE7"
    "j_)M&^c;fpfKjqk@}G=|d+6b1UEAl$h+c<&Ilhy3Fq_y0xjhK7{ofPppYl6oqG7|D!>5T{9bhvA4CO50u!HGeq?nK&|APd7fiwAWDY;$(^Xxy9!F"
    "`<AsO4;UhS7+PEUoSk@dpy2!@`!;(nFo_QA0l!7**2!Mtq2l+vokx&S{eNR9JM(e=t&>C5h*Lh^Ux0ZemY;BZ=>$E(Y(TE{Zo(OF<qFBAoIA;CR7"
    "=pB5(ee-Cz<!}Zn~>USd&8M~v$_;&Kh?KmEJO?x<>r@$&b?2nm#Fv6bi_1KA&O`o&yBl1ZGKgdt@PRSY1RC|uGRT0=qMm6K-1~{ifd5HW(C`WE(K"
    "DGp!JM9->fGB@_$Y*h2>K~1fdUWT}zh+6@O3AW(kpCAi%PTQAC$jz{vK=3N%93>5!e_{u^|@-b%9vo5OaK$;ruQ@)-xY+}>uL9mPF$Z~#RfQ{Ci_"
    "v6M=*~)SqN`(9_##pyjST{KeP5Z@a7TBT2DO`cHJB4VKm4!+~W@0m(KdN6cdp(AtJK)TXHSFgRo|~`DQdr&l+gK^CliAbD(af1CukEUcld&8!#b_"
    "H2wP{@A3z*L$8~+yq^6|98l;*?29r)@Je|Lrgz)Gg^-<O-T*u#Y^i@dC<;|M!Siq4Y^ia~F9}sxj(<WNNNWFxc%g?np++u*dRuDuc>Ki(Si2|Q-;"
    "X{A-|pS`OD%xyP=X5oMY_kUf$YF?@PlIMXyuLcwpOb|ZB@j0^wm27=~or$uS&oXJ4pH`VBw{w;D`t~;t}|AoFk!4|0G;Ir^k5Bm(dh6d|*~WcUOD"
    "Z$()V`a)xvkyC|J3b&K=N=h;ommM>3PF5J&}aG&;h+rn2f7fFgo?G>}9$w|;6$4ELm(lnod90pbLJK}e+e2%2Vw^U?jNfrPnLx5rz6n&QcC&S@g5"
    "l^tkWxMQk+Ci3LA^A3)Z)i&K8=9CPl=SMKlOyt<^|Q<QP27MS%_#R{&Atxjb3g4*1}`<l7`kuJYa7f!=?#rQET6w^Gw``>HA;myyVW>?t;Dy7)1D"
    "X|;XcnP|9FvS&qmVBR-X3Vq+a%vl!FlCb=_3(CSgT&+;LEWeqs*a)mLrtg;I(}t7_A5*{#D8{|2+GX|npaqvZRE7{;C>X|?HEc*2ky*?#zVcjGZ0"
    "0K8s)k9gtP>CE>NF>HTi)b(R&#ZmWXiKr%ML)uX*h*>h>xE3xr#j-VOdl3cEA?+ayAkj4pptp<My+l*FArHxbKb)bMrnWKd*>JGaEfJ}~?Jt1ar!"
    "F4{Sog3_U`2L%{-nbzGdr*3GGFtF=tuaRVMeOB73|xk|LX-#NX6HK;!G#ARsOcZYtjoMQa*kMVQl`2^qh;Fe?9)&5SQieI`qWmSv&*q4*Z6*gU<E"
    "qvd{#v8ojzQNygKuY?=jqB-5Gl8Il&!x<!z>Q-EkJK*UAstU8b$TK#yhM8?@e`U*Smb+S3K0N|%1w@IQWj>CB3==f15QDEN0=(h&a!>ikS?~@^Xf"
    ";PKA&I0tw7HFjTH2#)zWSD&oSlc@-;w+Qg8%U3=ehtH4*!ieW2uCK<dXl8QFScaEl<<d%6FIgykWQ_BdGDO3tB#Rb0LloUfHqK7hPAJ|j<2eCh>d"
    "r=`fvcu`i;Fyk@4(sa69h}W32AW0AZtyFg|(_9V!zh1}*;FH@k}+ytjA38>=(q6o4I<!+>O}&PfB-HcD{f5%zX-?_F=yPLUG;ITwyU@+ds(51qGz"
    "^TB*Fr~e-nR-0k"
)
# to here

PRIMER = zlib.decompress(base64.b85decode(_PACKED))
"""Texts, each after its size in two bytes, the low one first."""


__all__ = ["PRIMER"]
